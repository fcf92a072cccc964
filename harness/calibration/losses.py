"""One-sided error rates of the bound of item means at a true drop equal to the margin, before and after.

Each case draws the per-item differences from a distribution whose mean is exactly minus the margin, so that every PASS
and every FAIL is wrong. Student's t alone (what the gate used before) stands beside the bound in use; so do t with
pseudo-items at both ends (Agresti and Coull's manner) and the variance under the null alone. Many repetitions are
judged at once: only how often each value occurs matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.stats.bootstrap import private_generator
from harness.stats.checks import Floats
from harness.stats.means import paired_mean
from harness.stats.null_variance import null_variance
from harness.stats.quantiles import t_quantile, z_quantile, zero_discordance

SIZES, MARGINS, SEEDS = (100, 120, 200, 500, 1319), (0.015, 0.02, 0.03, 0.05), 5
MOST_WRONG = 0.075
"""The largest accepted false PASS, and false FAIL, at nominal 5 %, discreteness included."""

USED, BEFORE, PSEUDO, NULL = "larger variance", "t alone", "t with two pseudo-items", "null variance alone"
METHODS = (USED, BEFORE, PSEUDO, NULL)
VALUES = np.arange(-SEEDS, SEEDS + 1) / SEEDS


@dataclass(frozen=True)
class LossCase:
    """``n`` items, the true drop and margin (fractions), and what is lost: one of :data:`KINDS`."""

    n: int
    margin: float
    kind: str


@dataclass(frozen=True)
class LossRates:
    """Shares of wrong PASS and wrong FAIL by method (fractions) over ``repetitions``."""

    case: LossCase
    repetitions: int
    passing: Mapping[str, float]
    failing: Mapping[str, float]

    @property
    def problems(self) -> tuple[str, ...]:
        """What speaks against the bound in use, three standard errors of the simulation allowed."""
        slack = 3 * math.sqrt(MOST_WRONG * (1 - MOST_WRONG) / self.repetitions)
        rates = (("PASS", self.passing[USED]), ("FAIL", self.failing[USED]))
        return tuple(f"wrong {name} {rate:.4f}" for name, rate in rates if rate > MOST_WRONG + slack)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {**asdict(self), "problems": list(self.problems)}


def shares_of(kind: str, margin: float) -> Floats:
    """Return the probabilities of :data:`VALUES`: the mean is -``margin``."""
    at: dict[float, float] = _KINDS[kind](margin)
    found = np.zeros(len(VALUES))
    for value, share in at.items():
        found[round(value * SEEDS) + SEEDS] += share
    found[SEEDS] += 1 - found.sum()
    return found


_KINDS: dict[str, Any] = {
    "lost whole": lambda m: {-1.0: m},
    "lost at 4 of 5 seeds": lambda m: {-0.8: m / 0.8},
    "lost at 2 of 5 seeds": lambda m: {-0.4: m / 0.4},
    "lost at 1 of 5 seeds": lambda m: {-0.2: m / 0.2},
    "whole and part": lambda m: {-1.0: m / 2, -0.4: m / 0.8},
    "lost whole, whole flips 1 %": lambda m: {-1.0: m + 0.01, 1.0: 0.01},
    "lost whole, part flips 2 %": lambda m: {-1.0: m, -0.2: 0.02, 0.2: 0.02},
    "many small losses, rare whole gains": lambda m: {-0.2: 5 * (m + 0.02), 1.0: 0.02},
    "mild flips both ways": lambda m: {-0.2: 0.15 + 2.5 * m, 0.2: 0.15 - 2.5 * m, -0.4: 0.05, 0.4: 0.05},
}
KINDS = tuple(_KINDS)


def decisions(counts: NDArray[np.int64], n: int, margin: float, alpha: float = 0.05) -> dict[str, NDArray[np.int8]]:
    """Return method -> 1 PASS, -1 FAIL, 0 neither, for every row of ``counts`` (repetitions, values)."""
    weights = counts / n
    mean = weights @ VALUES
    gap = mean + margin
    variance = np.maximum(0.0, weights @ VALUES**2 - mean**2) * n / (n - 1)
    own = np.maximum(t_quantile(alpha, n - 1) * np.sqrt(variance / n), zero_discordance(n, alpha))
    distances = np.broadcast_to(VALUES + margin, weights.shape)
    null = z_quantile(alpha) * np.sqrt(null_variance(distances, weights, margin - 1.0, margin + 1.0) / n)
    more = n + 2
    shifted = mean * n / more
    squares = (weights @ VALUES**2 * n + 2) / more - shifted**2
    pseudo = t_quantile(alpha, more - 1) * np.sqrt(squares / (more - 1))
    halves = {USED: np.maximum(own, null), BEFORE: own, PSEUDO: pseudo, NULL: null}
    gaps = {name: shifted + margin if name == PSEUDO else gap for name in METHODS}
    return {
        name: ((gaps[name] > half).astype(np.int8) - (gaps[name] < -half).astype(np.int8))
        for name, half in halves.items()
    }


def loss_rates(case: LossCase, repetitions: int) -> LossRates:
    """Simulate ``case``; equal calls give equal rates."""
    rng = private_generator(0, f"{case}")
    drawn = rng.multinomial(case.n, shares_of(case.kind, case.margin), size=repetitions)
    found = decisions(drawn, case.n, case.margin)
    passing = {name: float((each > 0).mean()) for name, each in found.items()}
    failing = {name: float((each < 0).mean()) for name, each in found.items()}
    return LossRates(case, repetitions, passing, failing)


def loss_cases() -> tuple[LossCase, ...]:
    """Return every size, margin and kind of loss."""
    return tuple(LossCase(n, margin, kind) for n in SIZES for margin in MARGINS for kind in KINDS)


def quick_cases() -> tuple[LossCase, ...]:
    """Return the cases of a calibration in a minute: 200 items, a margin of 3 points, every kind of loss."""
    return tuple(LossCase(200, 0.03, kind) for kind in KINDS)


def mean_widths(n: int, repetitions: int, kind: str = "mild flips both ways", margin: float = 0.03) -> dict[str, float]:
    """Return the mean width (fraction) of the two-sided interval of 90 %: in use, and t alone."""
    rng = private_generator(0, f"width {n} {kind}")
    widths: dict[str, list[float]] = {USED: [], BEFORE: []}
    for counts in rng.multinomial(n, shares_of(kind, margin), size=repetitions):
        values = np.repeat(VALUES, counts)
        found = paired_mean(values)
        widths[USED].append(found.high - found.low)
        half = t_quantile(0.05, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
        widths[BEFORE].append(2 * max(half, zero_discordance(n, 0.05)))
    return {name: float(np.mean(each)) for name, each in widths.items()}


def cluster_rates(n: int, size: int, margin: float, repetitions: int) -> dict[str, tuple[float, float]]:
    """Return (wrong PASS, wrong FAIL) where clusters of ``size`` items are lost whole: over items, and over
    clusters."""
    rng = private_generator(0, f"clusters {n} {size} {margin}")
    count = n // size
    names = np.repeat(np.arange(count), size)
    found = {"items": [0, 0], "clusters": [0, 0]}
    for lost in rng.random((repetitions, count)) < margin + 0.02:
        gained = rng.random(count) < 0.02 / max(1e-9, 1 - margin - 0.02)
        values = np.repeat(np.where(lost, -1.0, np.where(gained, 1.0, 0.0)), size)
        for name, interval in (
            ("items", paired_mean(values)),
            ("clusters", paired_mean(values, clusters=names)),
        ):
            found[name][0] += interval.low > -margin
            found[name][1] += interval.high < -margin
    return {name: (wrong[0] / repetitions, wrong[1] / repetitions) for name, wrong in found.items()}
