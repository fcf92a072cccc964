"""Coverage of the intervals for right and wrong answers: proportion, paired difference, paired ratio, bootstraps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.calibration.coverage import (
    ACCURACIES,
    ALPHA,
    Cell,
    Coverage,
    Effort,
    PairShares,
    Setting,
    Stage,
    exact,
    holds_truth,
    simulated,
)
from harness.calibration.naive import wald, wald_difference, wald_ratio
from harness.stats.bootstrap import bca_mean, percentile_mean, private_generator
from harness.stats.interval import Interval
from harness.stats.newcombe import newcombe
from harness.stats.paired import ratio_score, tango
from harness.stats.proportion import wilson

DISCORDANCES = (0.02, 0.1, 0.3)
BOOTSTRAP_DISCORDANCE = 0.1
FEW = 10
"""Below so many expected discordant pairs a score interval is conservative: discreteness lifts its coverage."""

ENOUGH, WIDER, SCARCE = (0.94, 0.975), (0.94, 0.985), (0.94, 1.0)
"""Pinned coverages with enough discordant pairs, of Newcombe's interval there (conservative), and with few."""

NEWCOMBE = "Newcombe"


def proportion_cells(effort: Effort) -> Stage:
    """Return Wilson beside Wald, exactly, over all counts of every size and accuracy."""

    def cell(n: int, accuracy: float) -> tuple[Coverage, ...]:
        weight = stats.binom.pmf(np.arange(n + 1), n, accuracy)
        counts = np.flatnonzero(weight > 1e-12)
        setting = Setting(n, accuracy, "one draw")
        found = []
        for name, interval, shown in (("Wilson", wilson, False), ("Wald", wald, True)):
            covers = [holds_truth(interval(int(k), n, ALPHA), accuracy) for k in counts]
            share = exact(min(1.0, float(weight[counts[covers]].sum())))
            found.append(Coverage(name, setting, share, 0, (0.88, 1.0) if not shown else (0.0, 1.0), shown))
        return tuple(found)

    cells = tuple(partial(cell, n, a) for n in effort.sizes for a in ACCURACIES)
    return Stage("proportion", cells)


def _pin(name: str, n: int, shares: PairShares) -> tuple[float, float]:
    if n * (shares.lost + shares.gained) < FEW:
        return SCARCE
    return WIDER if name == NEWCOMBE else ENOUGH


Judged = Callable[[float, float, float, float], Interval | None]
"""An interval from (n11, gained, lost, n00)."""

_DIFFERENCES: tuple[tuple[str, Judged, bool], ...] = (
    ("Tango", lambda n11, gained, lost, n00: tango(lost, gained, n11 + gained + lost + n00, ALPHA), False),
    (NEWCOMBE, lambda n11, gained, lost, n00: newcombe(n11, gained, lost, n00, ALPHA), False),
    (
        "Wald difference",
        lambda n11, gained, lost, n00: wald_difference(lost, gained, n11 + gained + lost + n00, ALPHA),
        True,
    ),
)
_RATIOS: tuple[tuple[str, Judged, bool], ...] = (
    ("Tang/Nam ratio", lambda n11, gained, lost, n00: ratio_score(n11, gained, lost, n00, ALPHA), False),
    ("Wald ratio (log)", lambda n11, gained, lost, n00: wald_ratio(n11, gained, lost, ALPHA), True),
)


def _covered(tables: NDArray[np.int64], times: NDArray[np.int64], judged: Judged, truth: float) -> int:
    """How many of the drawn tables give an interval that holds ``truth``; every distinct table is judged once."""
    covers = np.array([holds_truth(judged(*(float(count) for count in table)), truth) for table in tables])
    return int(times[covers].sum())


def _pairs(n: int, accuracy: float, discordance: float, count: int) -> tuple[Coverage, ...]:
    shares = PairShares.of(accuracy, discordance)
    tables, times = shares.tables(n, count, f"pairs {n} {accuracy} {discordance}")
    setting = Setting(n, accuracy, f"discordance {shares.lost + shares.gained:.2g}")
    found = []
    for group, truth in ((_DIFFERENCES, shares.difference), (_RATIOS, shares.ratio)):
        for name, judged, shown in group:
            share = simulated(_covered(tables, times, judged, truth), count)
            pinned = (0.0, 1.0) if shown else _pin(name, n, shares)
            found.append(Coverage(name, setting, share, count, pinned, shown))
    return tuple(found)


def pair_cells(effort: Effort) -> Stage:
    """Return Tango and Newcombe beside Wald; the Tang/Nam ratio beside the logarithm's; over all sizes and
    accuracies."""
    settings = [(n, a, d) for n in effort.sizes for a in ACCURACIES for d in DISCORDANCES]
    return Stage("pairs", tuple(partial(_pairs, *setting, effort.tables) for setting in settings))


_BOOTSTRAPS = (("percentile bootstrap", percentile_mean), ("BCa bootstrap", bca_mean))


def _bootstraps(n: int, accuracy: float, effort: Effort) -> tuple[Coverage, ...]:
    shares = PairShares.of(accuracy, BOOTSTRAP_DISCORDANCE)
    drawn, times = shares.tables(n, effort.bootstraps, f"bootstrap {n} {accuracy}")
    # only lost and gained matter to the difference
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for table, often in zip(drawn, times, strict=True):
        counts[int(table[2]), int(table[1])] += int(often)
    setting = Setting(n, accuracy, f"discordance {shares.lost + shares.gained:.2g}")
    found = []
    for name, bootstrap in _BOOTSTRAPS:
        covered = 0
        for (lost, gained), often in counts.items():
            values = np.repeat([-1.0, 1.0, 0.0], [lost, gained, n - lost - gained])
            covered += often * holds_truth(bootstrap(values, ALPHA, 0, effort.resamples), shares.difference)
        found.append(Coverage(name, setting, simulated(covered, effort.bootstraps), effort.bootstraps, shown=True))
    return tuple(found)


def _few_runs(runs: int, effort: Effort) -> tuple[Coverage, ...]:
    """The bootstraps over the means of a few training runs, where the t interval is exact."""
    rng = private_generator(0, f"few runs {runs}")
    means = rng.normal(0.0, 0.03, (effort.bootstraps, runs))
    found = []
    for name, bootstrap in _BOOTSTRAPS:
        covered = sum(holds_truth(bootstrap(values, ALPHA, 0, effort.resamples), 0.0) for values in means)
        share = simulated(covered, effort.bootstraps)
        found.append(
            Coverage(name, Setting(runs, None, "means of training runs"), share, effort.bootstraps, shown=True)
        )
    return tuple(found)


def bootstrap_cells(effort: Effort) -> Stage:
    """Return the bootstraps that are reported beside the deciding interval: paired differences, and few training
    runs."""
    cells: list[Cell] = [partial(_bootstraps, n, a, effort) for n in effort.bootstrap_sizes for a in (0.75, 0.98, 1.0)]
    cells += [partial(_few_runs, runs, effort) for runs in (3, 5, 10)]
    return Stage("bootstraps", tuple(cells))
