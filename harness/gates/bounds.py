"""The one place where it is chosen which interval and which test a requirement is judged by.

| what was measured | difference | retention |
|---|---|---|
| one draw per item, right or wrong | Tango's score interval | Tang's and Nam's score interval |
| means over noise seeds, draws independent between items | item means | ratio of item means |
| noise seeds whose draws all items share, at least 5 | items by seeds | ratio over items by seeds |
| the same with fewer seeds | shown, but decides nothing | shown, but decides nothing |

Where items come in clusters, cluster means take the place of items in every row, also the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.gates.pairing import Floats, Pairs
from harness.stats import (
    LEAST_SEEDS,
    Interval,
    Tails,
    cluster_standard_error,
    items_needed_mean,
    items_needed_paired,
    items_needed_ratio,
    mean_ratio,
    mean_ratio_tails,
    mean_tails,
    paired_mean,
    ratio_score,
    ratio_tails,
    score_mean,
    tango,
    tango_tails,
    two_way_mean,
    two_way_ratio,
    two_way_tails,
    wilson,
)


@dataclass(frozen=True)
class Bound:
    """``interval`` of a one-sided alpha, ``tails`` against a bound, ``needed`` items to exclude (bound, alpha).

    ``interval`` may be ``None`` where a retention is undefined. ``name`` says which it is, for reports.
    """

    name: str
    interval: Callable[[float], Interval | None]
    tails: Callable[[float], Tails]
    needed: Callable[[float, float], int | None]


def accuracy_interval(values: Floats, binary: bool, alpha: float, clusters: np.ndarray | None = None) -> Interval:
    """Accuracy (fraction) of per-item means: Wilson for single draws, else over item means, or cluster means."""
    if binary and clusters is None:
        return wilson(float(values.sum()), len(values), alpha)
    return score_mean(values, alpha, clusters)


def difference_bound(pairs: Pairs) -> Bound:
    """How the mean of first - second over measured pairs is judged."""
    clusters = pairs.groups
    if pairs.binary and clusters is None:
        lost, gained = pairs.flips()
        n = pairs.n
        return Bound(
            "Tango's score interval",
            lambda alpha: tango(lost, gained, n, alpha),
            lambda bound: tango_tails(lost, gained, n, bound),
            lambda bound, alpha: items_needed_paired(lost, gained, n, -bound, alpha),
        )
    if pairs.crossed:
        ours, theirs = pairs.cells()
        table = ours - theirs
        return Bound(
            _named("items by noise seeds", clusters),
            lambda alpha: two_way_mean(table, alpha, clusters=clusters),
            lambda bound: two_way_tails(table, bound, clusters=clusters),
            lambda bound, alpha: None,
        )
    first, second = pairs.means()
    values = first - second
    return Bound(
        _named("item means", clusters),
        lambda alpha: paired_mean(values, alpha, clusters),
        lambda bound: mean_tails(values, bound, clusters),
        lambda bound, alpha: _items(values, clusters, -bound, alpha),
    )


def retention_bound(pairs: Pairs) -> Bound:
    """How the ratio mean(first) / mean(second) over measured pairs is judged.

    Over items and noise seeds where all items share the draws of a seed and there are enough seeds: the clean side then
    has one score per item, the same beside every seed.
    """
    clusters = pairs.groups
    noisy, clean = pairs.means()
    if pairs.binary and clusters is None:
        table = _table(pairs)
        return Bound(
            "Tang's and Nam's score interval",
            lambda alpha: ratio_score(*table, alpha),
            lambda bound: ratio_tails(*table, bound),
            lambda bound, alpha: items_needed_ratio(*table, bound, alpha),
        )
    if over_seeds(pairs):
        cells = pairs.cells()[0]
        return Bound(
            _named("items by noise seeds", clusters),
            lambda alpha: two_way_ratio(cells, clean, alpha, clusters),
            lambda bound: mean_ratio_tails(cells, clean, bound, clusters),
            lambda bound, alpha: None,
        )
    return Bound(
        _named("ratio of item means", clusters),
        lambda alpha: mean_ratio(noisy, clean, alpha, clusters),
        lambda bound: mean_ratio_tails(noisy, clean, bound, clusters),
        lambda bound, alpha: _items(noisy - bound * clean, clusters, 0.0, alpha),
    )


def over_seeds(pairs: Pairs) -> bool:
    """True where a retention is over items and seeds: the noisy side alone has to show how far seeds lie apart."""
    return pairs.crossed and pairs.first.shape[1] >= LEAST_SEEDS


def _named(name: str, clusters: np.ndarray | None) -> str:
    return name if clusters is None else f"{name}, over {len(np.unique(clusters))} clusters"


def _items(values: Floats, clusters: np.ndarray | None, margin: float, alpha: float) -> int | None:
    """Items (in clusters like these) at which the interval of a mean would exclude ``-margin``."""
    n = len(values)
    if n < 2:
        return None
    sd = float(np.std(values, ddof=1))
    if clusters is not None:
        sd = cluster_standard_error(values, clusters) * math.sqrt(n)
    return items_needed_mean(float(values.mean()), sd, margin, alpha) if math.isfinite(sd) else None


def _table(pairs: Pairs) -> tuple[int, int, int, int]:
    """(n11, n10, n01, n00), first index noisy, second clean."""
    noisy, _ = pairs.means()
    lost, gained = pairs.flips()
    right = int(noisy.sum())
    return right - gained, gained, lost, pairs.n - right - lost
