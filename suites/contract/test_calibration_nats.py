"""Is a verdict in nats as often wrong as it says? At a loss equal to the margin every PASS and every FAIL is wrong.

Each case draws documents of a kind of loss and of lengths, and asks the gate's own requirement. Mutants that leave
documents out, weigh them alike, or swap the sign must break the same bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.gates import FAIL, PASS
from harness.gates.nats import nats_requirement
from harness.stats import SkewedMean

pytestmark = pytest.mark.contract
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Floats], Floats]
Decide = Callable[[Floats, Floats, float], str]
ALPHA, ROOM, MANY = 0.05, 10.0, 400_000

LENGTHS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "equal": lambda rng, n: np.full(n, 100.0),
    "uneven": lambda rng, n: np.ceil(np.exp(rng.normal(5, 0.6, n))),
    "wild": lambda rng, n: np.ceil(np.exp(rng.normal(5, 1.2, n))),
}
LOSSES: dict[str, Draw] = {
    "even": lambda rng, size: 0.05 + rng.normal(0, 0.05, len(size)),
    "of tokens": lambda rng, size: 0.05 + rng.normal(0, 0.5, len(size)) / np.sqrt(size),
    "long tail": lambda rng, size: np.exp(rng.normal(0, 1, len(size))),
    "longer tail": lambda rng, size: np.exp(rng.normal(0, 1.5, len(size))),
    "exponential": lambda rng, size: rng.exponential(1, len(size)),
    "gamma": lambda rng, size: rng.gamma(0.3, 1, len(size)),
    "short ones lose": lambda rng, size: 0.05 * np.sqrt(150 / size) * np.exp(rng.normal(0, 0.5, len(size))),
    "long ones lose": lambda rng, size: 0.05 * np.sqrt(size / 150) * np.exp(rng.normal(0, 0.5, len(size))),
    "heavy both ways": lambda rng, size: 0.02 + 0.05 * rng.standard_t(3, len(size)),
    "one in twenty breaks": lambda rng, size: (
        rng.normal(0, 0.02, len(size)) + (rng.random(len(size)) < 0.05) * rng.exponential(1, len(size))
    ),
    "one in twenty gains": lambda rng, size: (
        rng.normal(0.1, 0.02, len(size)) - (rng.random(len(size)) < 0.05) * rng.exponential(1, len(size))
    ),
}


@cache
def true_loss(loss: str, lengths: str) -> float:
    """Nats a token that so many documents lose."""
    rng = np.random.default_rng(99)
    size = LENGTHS[lengths](rng, MANY)
    return float((LOSSES[loss](rng, size) * size).sum() / size.sum())


def in_use(lost: Floats, size: Floats, margin: float) -> str:
    return nats_requirement(SkewedMean.ratio(lost, size), ROOM, margin, ALPHA).verdict


def wrong(loss: str, lengths: str, documents: int, samples: int, decide: Decide = in_use) -> tuple[float, float]:
    """The shares of samples that PASS and that FAIL where the loss is the margin itself."""
    rng = np.random.default_rng([7, documents])
    shift = 0.05 - true_loss(loss, lengths)  # every kind of loss is judged against the same margin
    counts = {PASS: 0, FAIL: 0}
    for _ in range(samples):
        size = LENGTHS[lengths](rng, documents)
        verdict = decide((LOSSES[loss](rng, size) + shift) * size, size, 0.05)
        counts[verdict] = counts.get(verdict, 0) + 1
    return counts[PASS] / samples, counts[FAIL] / samples


def most(bound: float, samples: int) -> float:
    """``bound`` with four standard errors."""
    return bound + 4 * math.sqrt(bound * (1 - bound) / samples)


@pytest.mark.parametrize("documents", [80, 200])
@pytest.mark.parametrize("lengths", ["equal", "uneven"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_at_the_margin_is_seldom_decided(loss: str, lengths: str, documents: int) -> None:
    passed, failed = wrong(loss, lengths, documents, 300)
    assert passed <= most(0.08, 300) and failed <= most(0.08, 300), (passed, failed)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("loss", LOSSES)
def test_few_documents_are_undecided_not_wrong(loss: str, lengths: str) -> None:
    for documents in (2, 5, 20, 70):
        passed, failed = wrong(loss, lengths, documents, 150)
        assert passed == 0 and failed <= most(0.02, 150), (documents, failed)


@pytest.mark.thorough
@pytest.mark.parametrize("documents", [80, 100, 200, 500])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_published_rates_hold(loss: str, lengths: str, documents: int) -> None:
    passed, failed = wrong(loss, lengths, documents, 4000)
    assert passed <= most(0.11, 4000) and failed <= most(0.09, 4000), (passed, failed)


def left_out(lost: Floats, size: Floats, margin: float) -> str:
    """A mutant: documents that lost far more than others are taken for broken, and left out."""
    kept = lost / size < np.quantile(lost / size, 0.95)
    return in_use(lost[kept], size[kept], margin)


def all_alike(lost: Floats, size: Floats, margin: float) -> str:
    """A mutant: a document counts as one, whatever its length."""
    return in_use(lost / size, np.ones(len(size)), margin)


def swapped(lost: Floats, size: Floats, margin: float) -> str:
    """A mutant: what was lost counts as gained."""
    return in_use(-lost, size, margin)


def symmetric(lost: Floats, size: Floats, margin: float) -> str:
    """A mutant: Student's t, as if no loss had a tail."""
    mean = SkewedMean.ratio(lost, size)
    return nats_requirement(
        SkewedMean(mean.estimate, mean.sd, 0.0, mean.n, mean.effective), ROOM, margin, ALPHA
    ).verdict


@pytest.mark.parametrize(
    ("mutant", "loss", "lengths"),
    [
        (left_out, "longer tail", "equal"),
        (all_alike, "long ones lose", "uneven"),
        (swapped, "even", "equal"),
        (symmetric, "longer tail", "equal"),
    ],
)
def test_a_mutant_is_found_out(mutant: Decide, loss: str, lengths: str) -> None:
    passed, _ = wrong(loss, lengths, 200, 300, mutant)
    assert passed > most(0.08, 300), passed


def test_a_loss_far_from_the_margin_is_decided() -> None:
    rng = np.random.default_rng(4)
    size = LENGTHS["uneven"](rng, 200)
    even = LOSSES["even"](rng, size) * size
    assert (in_use(even, size, 0.08), in_use(even, size, 0.02)) == (PASS, FAIL)
    few = slice(0, 20)
    assert in_use(even[few] + 3 * size[few], size[few], 0.05) != PASS
    assert in_use(even[few] + 9 * size[few], size[few], 0.05) == FAIL
