"""Intervals of pass@k, pass^k and maj@k hold the truth over items as often as they say; counting draws as items does
not."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from harness.stats import paired_mean, score_mean, wilson
from harness.stats.bootstrap import private_generator
from harness.stats.repeated import majority_at_k, pass_all_k, pass_at_k

pytestmark = pytest.mark.contract
log = logging.getLogger(__name__)
REPETITIONS, MANY = 500, 400_000
WRONG = 0.05 + 4 * (0.05 * 0.95 / REPETITIONS) ** 0.5
"""Above the nominal share of one bound by four standard errors of the simulation."""
KINDS = {
    "even": lambda rng, n: rng.random(n),
    "hard": lambda rng, n: rng.beta(0.3, 3, n),
    "all or nothing": lambda rng, n: 0.01 + 0.98 * (rng.random(n) < 0.6),
}
TRUTHS = {
    "pass@k": lambda p, k: 1 - (1 - p) ** k,
    "pass^k": lambda p, k: p**k,
    # right or one wrong answer; k is odd, so that nothing ties
    "maj@k": lambda p, k: p**3 + 3 * p**2 * (1 - p),
}


def measured(name: str, right: np.ndarray, k: int) -> np.ndarray:
    if name == "maj@k":
        return majority_at_k(right, [["r" if score else "w" for score in row] for row in right], k)
    return {"pass@k": pass_at_k, "pass^k": pass_all_k}[name](right, k)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "k", "draws"), [("pass@k", 4, 4), ("pass@k", 2, 8), ("pass^k", 4, 8), ("maj@k", 3, 5)]
)
def test_each_bound_is_wrong_as_seldom_as_it_says(kind: str, name: str, k: int, draws: int) -> None:
    rng, n = private_generator(0, f"{kind} {name}"), 120
    truth = float(TRUTHS[name](KINDS[kind](rng, MANY), k).mean())
    below = above = 0
    for _ in range(REPETITIONS):
        right = (rng.random((n, draws)) < KINDS[kind](rng, n)[:, None]).astype(float)
        found = score_mean(measured(name, right, k))
        below, above = below + (found.low > truth), above + (found.high < truth)
    log.info("%s, %s, k %d of %d: %.3f, %.3f", kind, name, k, draws, below / REPETITIONS, above / REPETITIONS)
    assert max(below, above) / REPETITIONS < WRONG


def test_a_difference_of_sides_that_share_their_draws_is_no_exception() -> None:
    """The candidate loses a tenth of the chance of every item; both sides compare it with the same uniform numbers."""
    rng, n, k, draws = private_generator(1, "paired"), 120, 2, 4
    many = rng.random(MANY)
    truth = float((TRUTHS["pass@k"](0.9 * many, k) - TRUTHS["pass@k"](many, k)).mean())
    below = above = 0
    for _ in range(REPETITIONS):
        chance, drawn = rng.random(n)[:, None], rng.random((n, draws))
        ours, theirs = (pass_at_k((drawn < share * chance).astype(float), k) for share in (0.9, 1.0))
        found = paired_mean(ours - theirs)
        below, above = below + (found.low > truth), above + (found.high < truth)
    assert max(below, above) / REPETITIONS < WRONG


def test_draws_counted_as_items_are_seen_failing() -> None:
    """Wilson over all draws of all items: where items differ in difficulty its bounds are wrong far too often."""
    rng, n, draws = private_generator(2, "naive"), 120, 8
    wrong = 0
    for _ in range(REPETITIONS):
        right = rng.random((n, draws)) < KINDS["all or nothing"](rng, n)[:, None]
        found = wilson(float(right.sum()), right.size)
        wrong += not found.low <= 0.01 + 0.98 * 0.6 <= found.high
    assert wrong / REPETITIONS > 0.3
