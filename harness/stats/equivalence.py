"""Whether two arms differ by less than a margin: equivalence (two one-sided tests) and non-inferiority."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.weightstats import ttost_ind

from harness.stats.checks import Floats, ScoreError, vector


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

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {**asdict(self), "estimate": self.estimate if math.isfinite(self.estimate) else None}


def _check_margin(margin: float) -> None:
    if not 0 < margin < math.inf:
        raise ScoreError(f"margin {margin!r}", "a margin is above 0", "give the largest difference that is accepted")


def _testable(*samples: Floats) -> bool:
    return all(len(sample) > 1 for sample in samples) and any(float(np.ptp(sample)) > 0 for sample in samples)


def _difference(first: Floats, second: Floats) -> float:
    return float(first.mean() - second.mean()) if len(first) and len(second) else math.nan


def equivalence_independent(first: ArrayLike, second: ArrayLike, margin: float) -> MarginTest:
    """Return two one-sided Welch tests (TOST) of mean(first) - mean(second) inside -margin to margin, as in
    statsmodels."""
    _check_margin(margin)
    ours, theirs = vector(first, "first"), vector(second, "second")
    p_value = None
    if _testable(ours, theirs):
        p_value = float(ttost_ind(ours, theirs, -margin, margin, usevar="unequal")[0])
    return MarginTest("equivalence (TOST, Welch)", margin, _difference(ours, theirs), p_value, len(ours) + len(theirs))
