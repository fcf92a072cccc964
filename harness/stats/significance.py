"""Tests of paired and independent scores, each with the smallest p that its data could have given."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from harness.stats.checks import Floats, ScoreError, vector
from harness.stats.paired import checked_counts

ALTERNATIVES = ("two-sided", "less", "greater")


@dataclass(frozen=True)
class TestResult:
    """A test of "no difference". ``estimate`` is in score units (fractions for accuracies).

    ``p_value`` and ``statistic`` are ``None`` where the data allow no test (no spread, too few values).
    ``attainable`` is the smallest p that any outcome of this size could give; ``None``: no such bound.
    """

    __test__ = False  # no test class for pytest

    test: str
    alternative: str
    estimate: float
    statistic: float | None
    p_value: float | None
    n: int
    attainable: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        found = asdict(self)
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in found.items()
        }


def _check_alternative(alternative: str) -> None:
    if alternative not in ALTERNATIVES:
        raise ScoreError(f"alternative {alternative!r}", f"it is one of {', '.join(ALTERNATIVES)}", "use two-sided")


def mcnemar_exact(lost: int, gained: int, n: int, alternative: str = "two-sided") -> TestResult:
    """Return the exact McNemar test on ``lost`` and ``gained`` of ``n`` pairs; the estimate is (gained - lost) / n.

    ``less`` tests for a drop, ``greater`` for a gain. Without discordant pairs p is 1. The smallest attainable p is
    2 * 0.5^d for d discordant pairs (0.5^d one-sided). Raises ``ValueError`` on counts that do not fit.
    Source: McNemar (1947), Psychometrika 12, 153-157, as in statsmodels.
    """
    _check_alternative(alternative)
    checked_counts(lost=lost, gained=gained, n=n)
    if lost != int(lost) or gained != int(gained) or lost + gained > n:
        raise ValueError(f"{lost!r} lost and {gained!r} gained pairs of {n!r}; whole numbers, together at most n")
    discordant = int(lost + gained)
    estimate = (gained - lost) / n if n else math.nan
    sides = 2 if alternative == "two-sided" else 1
    attainable = min(1.0, sides * 0.5**discordant)
    if discordant == 0:
        p_value = 1.0
    elif sides == 2:
        p_value = min(1.0, float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue))
    else:
        p_value = float(stats.binomtest(int(gained), discordant, 0.5, alternative=alternative).pvalue)
    return TestResult("exact McNemar", alternative, estimate, float(min(lost, gained)), p_value, int(n), attainable)


def mcnemar_mid_p(lost: int, gained: int, n: int, alternative: str = "two-sided") -> TestResult:
    """Return McNemar's mid-p: as :func:`mcnemar_exact`, with the observed table counted half.

    The exact test is too careful, because tables are discrete (type-I rate .036 at nominal .05); mid-p has .049. With
    no discordant pairs p is 1. The smallest attainable p is half that of the exact test. Raises as it does.
    Source: Fagerland, Lydersen and Laake (2013), BMC Medical Research Methodology 13, 91.
    """
    exact = mcnemar_exact(lost, gained, n, alternative)
    discordant = int(lost + gained)
    if discordant == 0:
        return replace(exact, test="mid-p McNemar")
    assert exact.p_value is not None and exact.attainable is not None
    here = float(stats.binom.pmf(gained, discordant, 0.5))
    if alternative != "two-sided":
        p_value = exact.p_value - here / 2
    else:
        tail = float(stats.binom.cdf(min(lost, gained), discordant, 0.5))
        p_value = min(1.0, 2 * tail - here)
    return replace(exact, test="mid-p McNemar", p_value=p_value, attainable=exact.attainable / 2)


def _no_spread(values: Floats) -> bool:
    return len(values) < 2 or float(np.ptp(values)) == 0


def welch_t(first: ArrayLike, second: ArrayLike, alternative: str = "two-sided") -> TestResult:
    """Return Welch's t test of mean(first) - mean(second), independent values; p is ``None`` where either has no pair
    or neither has any spread. Source: Welch (1947), Biometrika 34, 28-35, as in scipy."""
    _check_alternative(alternative)
    ours, theirs = vector(first, "first"), vector(second, "second")
    n = len(ours) + len(theirs)
    estimate = float(ours.mean() - theirs.mean()) if len(ours) and len(theirs) else math.nan
    if min(len(ours), len(theirs)) < 2 or (_no_spread(ours) and _no_spread(theirs)):
        return TestResult("Welch t", alternative, estimate, None, None, n)
    found = stats.ttest_ind(ours, theirs, equal_var=False, alternative=alternative)
    return TestResult("Welch t", alternative, estimate, float(found.statistic), float(found.pvalue), n)
