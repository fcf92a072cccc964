"""Whether two arms differ by less than a margin: equivalence (two one-sided tests) and non-inferiority."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from statsmodels.stats.weightstats import DescrStatsW, ttost_ind

from harness.stats.checks import Floats, ScoreError, vector
from harness.stats.paired import checked_counts, difference_variance


@dataclass(frozen=True)
class MarginTest:
    """A test whose null hypothesis is a difference of at least ``margin`` (score units; fractions for accuracies).

    A small ``p_value`` establishes the claim: equivalent within the margin, or not worse than by it. ``None`` where
    the data allow no test (below two values, or no spread).
    """

    test: str
    margin: float
    estimate: float
    p_value: float | None
    n: int

    def established(self, alpha: float = 0.05) -> bool:
        """Return whether p <= ``alpha``; False without a p."""
        return self.p_value is not None and self.p_value <= alpha

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {**asdict(self), "estimate": self.estimate if math.isfinite(self.estimate) else None}


def _check_margin(margin: float) -> None:
    if not 0 < margin < math.inf:
        raise ScoreError(f"margin {margin!r}", "a margin is above 0", "give the largest difference that is accepted")


def _score_p(excess: float, variance: float, n: float) -> float:
    """One-sided p of the score statistic; without variance the sign of ``excess`` decides."""
    if variance <= 0:
        return 0.0 if excess > 0 else 1.0
    return float(special.ndtr(-excess * math.sqrt(n / variance)))


def non_inferiority_binary(lost: float, gained: float, n: float, margin: float) -> MarginTest:
    """Return Tango's score test of "the paired difference is at most -margin" (fractions, counts of ``n`` pairs).

    p is below alpha exactly where the lower bound of :func:`harness.stats.tango` at alpha lies above -margin.
    Raises ``ValueError`` on counts below 0. Source: Tango (1998), Statistics in Medicine 17, 891-908.
    """
    _check_margin(margin)
    checked_counts(lost=lost, gained=gained, n=n)
    if n == 0:
        return MarginTest("non-inferiority (Tango score)", margin, math.nan, None, 0)
    p, q = lost / n, gained / n
    p_value = _score_p(q - p + margin, difference_variance(p, q, -margin), n)
    return MarginTest("non-inferiority (Tango score)", margin, q - p, p_value, int(n))


def equivalence_binary(lost: float, gained: float, n: float, margin: float) -> MarginTest:
    """Return two one-sided Tango score tests: the paired difference lies inside -margin to margin (fractions)."""
    worse, better = non_inferiority_binary(lost, gained, n, margin), non_inferiority_binary(gained, lost, n, margin)
    p_value = None if worse.p_value is None or better.p_value is None else max(worse.p_value, better.p_value)
    return MarginTest("equivalence (two Tango score tests)", margin, worse.estimate, p_value, worse.n)


def _testable(*samples: Floats) -> bool:
    return all(len(sample) > 1 for sample in samples) and any(float(np.ptp(sample)) > 0 for sample in samples)


def _difference(first: Floats, second: Floats) -> float:
    return float(first.mean() - second.mean()) if len(first) and len(second) else math.nan


def non_inferiority_paired(differences: ArrayLike, margin: float) -> MarginTest:
    """Return the paired t test of "the mean difference is at most -margin", on per-item differences (score units)."""
    _check_margin(margin)
    values = vector(differences, "differences")
    estimate = float(values.mean()) if len(values) else math.nan
    p_value = float(DescrStatsW(values).ttest_mean(-margin, "larger")[1]) if _testable(values) else None
    return MarginTest("non-inferiority (paired t)", margin, estimate, p_value, len(values))


def equivalence_paired(differences: ArrayLike, margin: float) -> MarginTest:
    """Return two one-sided paired t tests (TOST) on per-item differences (score units).

    Source: Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680, as in statsmodels.
    """
    _check_margin(margin)
    values = vector(differences, "differences")
    estimate = float(values.mean()) if len(values) else math.nan
    p_value = float(DescrStatsW(values).ttost_mean(-margin, margin)[0]) if _testable(values) else None
    return MarginTest("equivalence (TOST, paired t)", margin, estimate, p_value, len(values))


def equivalence_independent(first: ArrayLike, second: ArrayLike, margin: float) -> MarginTest:
    """Return two one-sided Welch tests (TOST) of mean(first) - mean(second) inside -margin to margin, as in
    statsmodels."""
    _check_margin(margin)
    ours, theirs = vector(first, "first"), vector(second, "second")
    p_value = None
    if _testable(ours, theirs):
        p_value = float(ttost_ind(ours, theirs, -margin, margin, usevar="unequal")[0])
    return MarginTest("equivalence (TOST, Welch)", margin, _difference(ours, theirs), p_value, len(ours) + len(theirs))
