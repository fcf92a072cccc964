"""The one place where it is chosen which test a requirement is judged by.

| what was measured | difference | retention |
|---|---|---|
| one draw per item, right or wrong | Tango's score interval | Tang's and Nam's score interval |
| means over noise seeds, draws independent between items | item means | ratio of item means |
| noise seeds whose draws all items share, at least 5 | items by seeds | ratio over items by seeds |
| the same with fewer seeds | shown, but decides nothing | shown, but decides nothing |

Where items come in clusters, cluster means take the place of items in every row, also the first.
"""

from __future__ import annotations

from harness.gates.pairing import Floats, Pairs
from harness.stats import LEAST_SEEDS, Interval, score_mean, wilson
from harness.stats.paired_tests import (
    Clusters,
    MeanRatioTest,
    MeanTest,
    PairedTest,
    RatioScoreTest,
    TangoTest,
    TwoWayRatioTest,
    TwoWayTest,
)


def accuracy_interval(values: Floats, binary: bool, alpha: float, clusters: Clusters = None) -> Interval:
    """Return the accuracy (fraction) of per-item means: Wilson for single draws, else over item or cluster means."""
    if binary and clusters is None:
        return wilson(float(values.sum()), len(values), alpha)
    return score_mean(values, alpha, clusters)


def difference_test(pairs: Pairs) -> PairedTest:
    """Return the test of the mean of first - second over measured pairs."""
    clusters = pairs.groups
    if pairs.binary and clusters is None:
        return TangoTest(*pairs.flips(), pairs.n)
    if pairs.crossed:
        ours, theirs = pairs.cells()
        return TwoWayTest(ours - theirs, clusters)
    first, second = pairs.means()
    return MeanTest(first - second, clusters)


def retention_test(pairs: Pairs) -> PairedTest:
    """Return the test of mean(first) / mean(second) over measured pairs.

    Over items and noise seeds where all items share the draws of a seed and there are enough seeds: the clean side then
    has one score per item, the same beside every seed.
    """
    clusters = pairs.groups
    noisy, clean = pairs.means()
    if pairs.binary and clusters is None:
        return _ratio_of_counts(pairs)
    if over_seeds(pairs):
        return TwoWayRatioTest(pairs.cells()[0], clean, clusters)
    return MeanRatioTest(noisy, clean, clusters)


def over_seeds(pairs: Pairs) -> bool:
    """Return whether a retention is over items and seeds: the noisy side alone shows how far seeds lie apart."""
    return pairs.crossed and pairs.first.shape[1] >= LEAST_SEEDS


def _ratio_of_counts(pairs: Pairs) -> RatioScoreTest:
    noisy, _ = pairs.means()
    lost, gained = pairs.flips()
    right = int(noisy.sum())
    return RatioScoreTest(right - gained, gained, lost, pairs.n - right - lost)
