"""Wrong verdicts at a true drop equal to the margin: concentrated losses, whole gates over several levels, clusters.

Every PASS and every FAIL is wrong here, so that a share above :data:`harness.calibration.losses.MOST_WRONG` speaks
against the gate. Beside each stands what was in use before, or what leaves the matter out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.calibration.losses import (
    BEFORE,
    MOST_WRONG,
    USED,
    VALUES,
    cluster_rates,
    loss_cases,
    loss_rates,
    quick_cases,
    shares_of,
)
from harness.gates.families import judge_levels
from harness.gates.policy import FIXED_SEQUENCE
from harness.gates.requirements import Requirement
from harness.gates.verdicts import FAIL, INCONCLUSIVE
from harness.stats import mean_tails
from harness.stats.bootstrap import private_generator

LEVELS, CLUSTER_SIZES, POOL = (3, 6), (4, 10), 600
"""Whole gates over so many levels, clusters of so many items, and how many levels are drawn to be combined."""


@dataclass(frozen=True)
class ErrorShares:
    """Shares of wrong PASS and wrong FAIL (fractions; ``None``: not simulated), and those of ``other``, which is not in
    use: the bound before, levels each for itself, or items taken as independent."""

    name: str
    n: int
    margin: float
    repetitions: int
    passing: float | None
    failing: float
    other: str
    other_passing: float | None
    other_failing: float

    @property
    def problems(self) -> tuple[str, ...]:
        """Shares above the bound, three standard errors of the simulation allowed."""
        most = MOST_WRONG + 3 * math.sqrt(MOST_WRONG * (1 - MOST_WRONG) / self.repetitions)
        rates = (("PASS", self.passing), ("FAIL", self.failing))
        return tuple(
            f"wrong {name} {rate:.4f}, at most {MOST_WRONG:g}"
            for name, rate in rates
            if rate is not None and rate > most
        )

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {**asdict(self), "problems": list(self.problems)}


def wrong_fails(levels: int, repetitions: int) -> ErrorShares:
    """Return how often some level FAILs where each has a drop equal to its margin: each for itself, and adjusted by
    Holm."""
    rng, margin = private_generator(0, f"whole gate {levels}"), 0.03
    pool = rng.multinomial(200, shares_of("mild flips both ways", margin), size=POOL)
    p_values = np.array([mean_tails(np.repeat(VALUES, row), -margin).below for row in pool])
    alone = adjusted = 0
    for _ in range(repetitions):
        drawn = rng.choice(p_values, levels)
        requirements = {
            float(i): (Requirement(INCONCLUSIVE, "", None, True, 1.0, float(p)),) for i, p in enumerate(drawn)
        }
        alone += bool((drawn <= 0.05).any())
        adjusted += any(verdict == FAIL for verdict, _ in judge_levels(FIXED_SEQUENCE, requirements, 0.05).values())
    # what the pool's own draw can be off by is that of its POOL levels, not of the repetitions
    return ErrorShares(
        f"whole gate over {levels} levels",
        200,
        margin,
        min(repetitions, POOL),
        None,
        adjusted / repetitions,
        "each level for itself",
        None,
        alone / repetitions,
    )


def _clusters(size: int, repetitions: int) -> ErrorShares:
    found = cluster_rates(400, size, 0.03, repetitions)
    ours, others = found["clusters"], found["items"]
    return ErrorShares(f"clusters of {size} items", 400, 0.03, repetitions, *ours, "over items", *others)


def _losses(thorough: bool) -> list[Callable[[], ErrorShares]]:
    def job(case: Any, repetitions: int) -> Callable[[], ErrorShares]:
        def run() -> ErrorShares:
            rates = loss_rates(case, repetitions)
            ours, before = ((rates.passing[name], rates.failing[name]) for name in (USED, BEFORE))
            return ErrorShares(case.kind, case.n, case.margin, repetitions, *ours, BEFORE, *before)

        return run

    repetitions = 20_000 if thorough else 2_000
    return [job(case, repetitions) for case in (loss_cases() if thorough else quick_cases())]


def error_jobs(thorough: bool = False) -> Sequence[Callable[[], ErrorShares]]:
    """Return every simulation, not yet run: concentrated losses, whole gates, clusters. Equal calls give equal
    shares."""
    few = 2_000 if thorough else 150
    return (
        *_losses(thorough),
        *(lambda levels=levels: wrong_fails(levels, 2_000) for levels in LEVELS),
        *(lambda size=size: _clusters(size, few) for size in CLUSTER_SIZES),
    )


def run_errors(
    jobs: Sequence[Callable[[], ErrorShares]], advance: Callable[[int], None] | None = None
) -> tuple[ErrorShares, ...]:
    """Run ``jobs``; ``advance(1)`` is called after each."""
    found = []
    for job in jobs:
        found.append(job())
        if advance is not None:
            advance(1)
    return tuple(found)
