"""The planner's prediction: how probable PASS, INCONCLUSIVE and FAIL are before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from harness.stats.checks import Floats, ScoreError
from harness.stats.paired import difference_variance
from harness.stats.power import MAX_ITEMS
from harness.stats.quantiles import check_alpha, t_quantile, z_quantile, zero_discordance

_TAIL = 1e-11
"""Probability left out at each end of the tables that are added up."""

_EXACT_UP_TO = 10_000.0
"""Expected discordant pairs up to which the tables are added up; beyond, the normal approximation is as good."""


@dataclass(frozen=True)
class VerdictOdds:
    """Probabilities of the three verdicts; they add up to 1."""

    passing: float
    inconclusive: float
    failing: float

    def to_json(self) -> dict[str, float]:
        """Return a plain dictionary."""
        return asdict(self)


def shares(discordance: float, drop: float) -> tuple[float, float]:
    """Return (lost, gained): the shares of pairs that ``discordance`` and ``drop`` (fractions) stand for.

    Raises :class:`ScoreError` where the drop exceeds the discordance.
    """
    if not (0 <= discordance <= 1 and abs(drop) <= discordance + 1e-12):
        raise ScoreError(
            f"discordance {discordance!r} and drop {drop!r}",
            "both are fractions, and a drop is made of discordant pairs",
            "raise the discordance to the drop at least",
        )
    return max(0.0, (discordance + drop) / 2), max(0.0, (discordance - drop) / 2)


def verdict_odds(n: int, discordance: float, margin: float, drop: float = 0.0, alpha: float = 0.05) -> VerdictOdds:
    """Return the odds of the gate on one draw of ``n`` items, by Tango's interval against ``margin`` (fractions).

    ``discordance`` is the share of pairs whose sides differ, ``drop`` the true drop, at most ``discordance``. The
    probabilities of all tables are added up; from 10,000 discordant pairs on it is the normal approximation.
    Without items all is inconclusive. Raises :class:`ScoreError` on shares that do not fit.
    """
    z = z_quantile(alpha)
    lost, gained = shares(discordance, drop)
    if n < 1:
        return VerdictOdds(0.0, 1.0, 0.0)
    if n * discordance > _EXACT_UP_TO:
        return _normal_odds(n, (lost, gained), margin, z)
    return _exact_odds(n, (lost, gained), margin, z)


def score_statistic(lost: Floats, gained: Floats, n: int, delta: float) -> Floats:
    """Return Tango's statistic of "the difference is ``delta``" for counts of any shape; infinite without variance."""
    p, q = lost / n, gained / n
    observed = q - p
    b = -(p + q) - observed * delta + 2 * delta * delta
    c = delta * (1 - delta * delta) * (observed - delta)
    root = np.sqrt(np.maximum(0.0, b * b - 4 * c))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(b <= 0, (root - b) / 2, -2 * c / (b + root))
        found = (observed - delta) * math.sqrt(n) / np.sqrt(np.maximum(0.0, variance))
    return np.asarray(np.nan_to_num(found, nan=0.0, posinf=np.inf, neginf=-np.inf))


def _range(n: int, p: float) -> NDArray[np.float64]:
    low, high = stats.binom.ppf([_TAIL, 1 - _TAIL], n, p)
    return np.arange(max(0.0, low - 1), min(n, high + 1) + 1)


def _exact_odds(n: int, pair: tuple[float, float], margin: float, z: float) -> VerdictOdds:
    lost_share, gained_share = pair
    lost, gained = _range(n, lost_share)[:, None], _range(n, gained_share)[None, :]
    rest = np.maximum(n - lost, 0)
    among_rest = min(1.0, gained_share / (1 - lost_share)) if lost_share < 1 else 0.0
    weight = stats.binom.pmf(lost, n, lost_share) * stats.binom.pmf(gained, rest, among_rest)
    weight = np.where(lost + gained <= n, weight, 0.0)
    statistic = score_statistic(lost, gained, n, -margin)
    passing = float(weight[statistic > z].sum())
    failing = float(weight[statistic < -z].sum())
    return VerdictOdds(passing, max(0.0, 1 - passing - failing), failing)


def _normal_odds(n: int, pair: tuple[float, float], margin: float, z: float) -> VerdictOdds:
    lost, gained = pair
    drop = lost - gained
    restricted = math.sqrt(difference_variance(lost, gained, -margin))
    spread = math.sqrt(lost + gained - drop * drop)
    gap = (margin - drop) * math.sqrt(n)
    passing = float(special.ndtr((gap - z * restricted) / spread))
    failing = float(special.ndtr((-gap - z * restricted) / spread))
    return VerdictOdds(passing, max(0.0, 1 - passing - failing), failing)


def verdict_odds_mean(n: int, sd: float, margin: float, drop: float = 0.0, alpha: float = 0.05) -> VerdictOdds:
    """Return the odds of the gate on per-item means over several seeds, by :func:`harness.stats.paired_mean`
    (fractions).

    ``sd`` is the standard deviation of the per-item differences. Noncentral t; where the width that zero discordance
    leaves open decides, the normal distribution. Below two items all is inconclusive.
    """
    check_alpha(alpha)
    if not 0 <= sd < math.inf:
        raise ScoreError(f"sd {sd!r}", "a standard deviation is at least 0", "give that of the per-item differences")
    if n < 2:
        return VerdictOdds(0.0, 1.0, 0.0)
    gap, floor = margin - drop, zero_discordance(n, alpha)
    if sd == 0:
        return VerdictOdds(float(gap > floor), float(abs(gap) <= floor), float(gap < -floor))
    error = sd / math.sqrt(n)
    t, noncentral = t_quantile(alpha, n - 1), gap / error
    passing = min(float(stats.nct.sf(t, n - 1, noncentral)), float(special.ndtr((gap - floor) / error)))
    failing = min(float(stats.nct.sf(t, n - 1, -noncentral)), float(special.ndtr((-gap - floor) / error)))
    return VerdictOdds(passing, max(0.0, 1 - passing - failing), failing)


def items_to_pass(
    discordance: float, margin: float, drop: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Return about the smallest number of items at which PASS has probability ``power``; ``None`` where no number does.

    Counts are discrete, so that a few more items can have slightly less power.
    """
    if drop >= margin or not 0 < power < 1:
        return None
    enough = 1
    while verdict_odds(enough, discordance, margin, drop, alpha).passing < power:
        enough *= 2
        if enough > MAX_ITEMS:
            return None
    below = enough // 2
    while enough - below > 1:
        middle = (below + enough) // 2
        if verdict_odds(middle, discordance, margin, drop, alpha).passing < power:
            below = middle
        else:
            enough = middle
    return enough


def least_passing(passing: Callable[[int], float], most: int, power: float = 0.8) -> int | None:
    """Return the smallest number for which ``passing`` (of a number, growing) has probability ``power``, None where
    even ``most`` is not enough."""
    if passing(most) < power:
        return None
    below, enough = 0, 1
    while passing(enough) < power:
        below, enough = enough, min(2 * enough, most)
    while enough - below > 1:
        middle = (below + enough) // 2
        if passing(middle) >= power:
            enough = middle
        else:
            below = middle
    return enough
