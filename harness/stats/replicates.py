"""Differences between arms of replicated runs: one number per run, a handful of runs per arm.

Values may be fractions or percentage points, and results have the unit of the values. As everywhere in this package
``alpha`` is one-sided per bound: 0.025 gives the usual 95 % interval. p-values are two-sided. One run per arm has no
interval: its bounds are infinite and its p is ``None``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha, t_quantile

MAX_ARRANGEMENTS = 200_000
"""Above this many arrangements the permutation test samples them, with a generator of its own."""

MAX_SEEDS = 10_000
"""Above this many seeds per arm the answer is that nothing affordable settles it (``None``)."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class ReplicateDifference:
    """Arm minus reference: interval, two-sided p, degrees of freedom, runs per arm.

    ``degenerate`` where all values of both arms are equal within the arm, so that there is no spread to judge by:
    the bounds are then infinite and p is ``None``, as for a single run.
    """

    interval: Interval
    p: float | None
    freedom: float
    runs: tuple[int, int]
    degenerate: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON; infinite bounds become ``None``."""
        return {
            **self.interval.to_json(),
            "p": self.p,
            "degrees_of_freedom": self.freedom if math.isfinite(self.freedom) else None,
            "runs": list(self.runs),
            "degenerate": self.degenerate,
        }


@dataclass(frozen=True)
class Permutation:
    """A permutation test over runs: two-sided p, the least p these numbers of runs can reach, and how it was done."""

    p: float
    attainable: float
    arrangements: int
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON."""
        return {
            "p": self.p,
            "attainable_p": self.attainable,
            "arrangements": self.arrangements,
            "exact": self.exact,
        }


@dataclass(frozen=True)
class PooledSpread:
    """The standard deviation between runs of equal configuration, pooled over groups, with its degrees of freedom."""

    sd: float
    freedom: int

    def half_width(self, runs: int, reference_runs: int, alpha: float = 0.025) -> float:
        """Return t * sd * sqrt(1/runs + 1/reference_runs): what this spread alone explains of a difference of means."""
        if self.freedom < 1 or min(runs, reference_runs) < 1:
            return math.inf
        return t_quantile(alpha, self.freedom) * self.sd * math.sqrt(1 / runs + 1 / reference_runs)


def welch(arm: ArrayLike, reference: ArrayLike, alpha: float = 0.025) -> ReplicateDifference:
    """Return Welch's interval of mean(arm) - mean(reference) over runs with unequal variances.

    Both inputs are 1-D, one value per run. An arm without spread adds no variance; two are ``degenerate``. Raises
    ``ValueError`` on an empty arm or values that are not finite.
    Source: Welch (1947), Biometrika 34, 28-35, as in scipy.
    """
    check_alpha(alpha)
    ours, theirs = _runs(arm, "arm"), _runs(reference, "reference")
    runs = len(ours), len(theirs)
    if min(runs) < 2:
        return _open(float(ours.mean() - theirs.mean()), runs)
    # from means and spreads: scipy warns of an arm without spread, whose variance is 0
    return welch_from_summary((float(ours.mean()), float(theirs.mean())), (_sd(ours), _sd(theirs)), runs, alpha)


def _sd(values: NDArray[np.float64]) -> float:
    """With n - 1; exactly 0 where the values differ by rounding only."""
    return 0.0 if np.ptp(values) < _ROUNDING else float(values.std(ddof=1))


def welch_from_summary(
    means: tuple[float, float], sds: tuple[float, float], runs: tuple[int, int], alpha: float = 0.025
) -> ReplicateDifference:
    """Do as :func:`welch`, from published (arm, reference) means, standard deviations with n - 1, and runs."""
    check_alpha(alpha)
    if not all(math.isfinite(value) for value in (*means, *sds)) or min(sds) < 0 or min(runs) < 1:
        raise ValueError(f"means {means}, standard deviations {sds}, runs {runs}; finite, not negative, at least 1")
    estimate = means[0] - means[1]
    if min(runs) < 2:
        return _open(estimate, runs)
    parts = [sd * sd / count for sd, count in zip(sds, runs, strict=True)]
    if math.sqrt(sum(parts)) < _ROUNDING:
        return _open(estimate, runs, degenerate=True)
    freedom = sum(parts) ** 2 / sum(part * part / (count - 1) for part, count in zip(parts, runs, strict=True))
    half = float(stats.t.isf(alpha, freedom)) * math.sqrt(sum(parts))
    found = stats.ttest_ind_from_stats(means[0], sds[0], runs[0], means[1], sds[1], runs[1], equal_var=False)
    return ReplicateDifference(
        Interval(estimate, estimate - half, estimate + half), float(found.pvalue), freedom, (int(runs[0]), int(runs[1]))
    )


def attainable_p(runs: int, reference_runs: int, paired: bool = False, two_sided: bool = True) -> float:
    """Return the least p that an exact permutation test over these numbers of runs can reach: 2 of all arrangements, or
    1 one-sided.

    3 runs against 3: 0.1; 4 against 4: 0.029. At most 1.
    """
    if min(runs, reference_runs) < 1:
        return 1.0
    return min(1.0, (2 if two_sided else 1) / _arrangements(runs, reference_runs, paired))


def permutation(arm: ArrayLike, reference: ArrayLike, paired: bool = False, seed: int = 0) -> Permutation:
    """Return the permutation test of the difference of means over runs, exact up to :data:`MAX_ARRANGEMENTS`
    arrangements.

    The two-sided p is twice the smaller one-sided p, at most 1, as in scipy. Above that many arrangements they are
    sampled with a generator seeded by ``seed``, and ``exact`` is false. Raises as :func:`welch` does.
    """
    ours, theirs = _runs(arm, "arm"), _runs(reference, "reference")
    if paired and len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} runs and {len(theirs)}; pairs need equal numbers")
    count, least = _arrangements(len(ours), len(theirs), paired), attainable_p(len(ours), len(theirs), paired)
    if least == 1.0:  # a single arrangement, or two that mirror each other, decide nothing
        return Permutation(1.0, 1.0, count, exact=True)
    if not paired and min(len(ours), len(theirs)) == 1:
        return Permutation(_one_against(ours, theirs), least, count, exact=True)
    exact = count <= MAX_ARRANGEMENTS
    found = stats.permutation_test(
        (ours, theirs),
        _mean_difference,
        permutation_type="samples" if paired else "independent",
        n_resamples=math.inf if exact else MAX_ARRANGEMENTS // 4,
        vectorized=True,
        alternative="two-sided",
        rng=np.random.default_rng([seed, count % 2**32]),
    )
    return Permutation(min(1.0, float(found.pvalue)), least, count, exact)


def pooled_sd(groups: Sequence[Sequence[float]]) -> PooledSpread:
    """Return the standard deviation within groups of runs that had one configuration, pooled over the groups.

    sqrt(sum of squared deviations from the group means / sum of (group size - 1)); groups of one run add nothing, and
    without any group of two the sd is NaN at 0 degrees of freedom. Raises ``ValueError`` on values that are not finite.
    """
    arrays = [_runs(group, "group") for group in groups if len(group)]
    freedom = sum(len(array) - 1 for array in arrays)
    if freedom == 0:
        return PooledSpread(math.nan, 0)
    squares = sum(float(((array - array.mean()) ** 2).sum()) for array in arrays)
    return PooledSpread(math.sqrt(squares / freedom), freedom)


def seeds_needed(difference: float, sd: float, alpha: float = 0.025, power: float = 0.8) -> int | None:
    """Return the runs per arm at which a two-sample t-test finds a true ``difference`` with probability ``power``.

    ``sd`` is the standard deviation between runs of one arm, in the unit of the difference. At least 2. ``None`` where
    there is no difference or no finite sd, or more than :data:`MAX_SEEDS` would be needed. Source: statsmodels.
    """
    check_alpha(alpha)
    if not (math.isfinite(difference) and math.isfinite(sd)) or sd < 0:
        return None
    if abs(difference) < _ROUNDING:
        return None
    from statsmodels.stats.power import TTestIndPower

    def reached(runs: int) -> bool:
        if sd < _ROUNDING:
            return True
        effect = abs(difference) / sd
        found = float(TTestIndPower().power(effect, runs, 2 * alpha, alternative="two-sided"))
        # scipy's noncentral t has no value far out, where the power is 1 to many digits
        return found >= power if math.isfinite(found) else effect * math.sqrt(runs / 2) > 6

    return _smallest(reached)


def seeds_for_equivalence(margin: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Return the runs per arm at which two one-sided t-tests show a difference within +-``margin`` if there truly is
    none.

    ``margin`` and ``sd`` in one unit; ``None`` as in :func:`seeds_needed`. Source: Schuirmann (1987), Journal of
    Pharmacokinetics and Biopharmaceutics 15, 657-680; power by the central t distribution at the true difference 0.
    """
    check_alpha(alpha)
    if not (math.isfinite(margin) and math.isfinite(sd)) or margin <= 0 or sd < 0:
        return None

    def reached(runs: int) -> bool:
        if sd < _ROUNDING:
            return True
        freedom = 2 * runs - 2
        room = margin / (sd * math.sqrt(2 / runs)) - t_quantile(alpha, freedom)
        return room > 0 and 2 * float(stats.t.cdf(room, freedom)) - 1 >= power

    return _smallest(reached)


def _smallest(reached: Any) -> int | None:
    """The smallest number of runs from 2 on for which ``reached`` holds; it is monotone."""
    below, enough = 1, 2
    while not reached(enough):
        if enough == MAX_SEEDS:
            return None
        below, enough = enough, min(2 * enough, MAX_SEEDS)
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if reached(middle) else (middle, enough)
    return enough


def _runs(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{name} of shape {array.shape}; one finite number per run, at least one, is needed")
    return array


def _open(estimate: float, runs: tuple[int, int], degenerate: bool = False) -> ReplicateDifference:
    return ReplicateDifference(
        Interval(estimate, -math.inf, math.inf), None, math.nan, (int(runs[0]), int(runs[1])), degenerate
    )


def _arrangements(runs: int, reference_runs: int, paired: bool) -> int:
    return int(2**runs) if paired else math.comb(runs + reference_runs, runs)


def _one_against(arm: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The exact two-sided p where one arm is a single run, which scipy refuses: its rank among all runs."""
    alone, others = (arm, reference) if len(arm) == 1 else (reference, arm)
    every = np.concatenate([alone, others])
    above, below = (every >= alone[0] - _ROUNDING).sum(), (every <= alone[0] + _ROUNDING).sum()
    return min(1.0, 2 * float(min(above, below)) / len(every))


def _mean_difference(
    arm: NDArray[np.float64], reference: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64] | float:
    difference: NDArray[np.float64] = arm.mean(axis=axis) - reference.mean(axis=axis)
    return difference
