"""Paired tests as objects: each has its interval, its one-sided p-values, and the items at which it would decide.

Which one judges what was measured is chosen in :mod:`harness.gates.bounds`, and nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.stats.checks import Floats
from harness.stats.clustered import cluster_standard_error
from harness.stats.interval import Interval
from harness.stats.means import mean_ratio, paired_mean
from harness.stats.paired import ratio_score, tango
from harness.stats.power import items_needed_mean, items_needed_paired, items_needed_ratio
from harness.stats.tails import Tails, mean_ratio_tails, mean_tails, ratio_tails, tango_tails, two_way_tails
from harness.stats.two_way import two_way_mean
from harness.stats.two_way_ratio import two_way_ratio

Clusters = NDArray[np.int64] | None


class PairedTest(Protocol):
    """A test of a paired difference, or of a ratio of paired means."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def interval(self, alpha: float) -> Interval | None:
        """Return the interval whose bounds are one-sided at ``alpha``; ``None`` where the ratio is undefined."""

    def tails(self, bound: float) -> Tails:
        """Return both one-sided p-values against ``bound``."""

    def items_needed(self, bound: float, alpha: float) -> int | None:
        """Return the items at which the interval would exclude ``bound``, if the estimate stayed as it is; ``None``
        where no number of items would, or where that is unknown."""


@dataclass(frozen=True)
class TangoTest:
    """Of (gained - lost) / n, one draw per item. Source: Tango (1998), Statistics in Medicine 17, 891-908."""

    lost: int
    gained: int
    n: int
    name = "Tango's score interval"

    def interval(self, alpha: float) -> Interval:
        """Return :func:`harness.stats.tango`."""
        return tango(self.lost, self.gained, self.n, alpha)

    def tails(self, bound: float) -> Tails:
        """Return :func:`harness.stats.tango_tails`."""
        return tango_tails(self.lost, self.gained, self.n, bound)

    def items_needed(self, bound: float, alpha: float) -> int | None:
        """Return :func:`harness.stats.items_needed_paired`."""
        return items_needed_paired(self.lost, self.gained, self.n, -bound, alpha)


@dataclass(frozen=True)
class RatioScoreTest:
    """Of the ratio of paired proportions (n11 + n10) / (n11 + n01), first index noisy, second clean.

    Source: Tang, Tang and Chan (2003), Nam and Blackwelder (2002), both in Statistics in Medicine.
    """

    n11: int
    n10: int
    n01: int
    n00: int
    name = "Tang's and Nam's score interval"

    @property
    def _table(self) -> tuple[int, int, int, int]:
        return self.n11, self.n10, self.n01, self.n00

    def interval(self, alpha: float) -> Interval | None:
        """Return :func:`harness.stats.ratio_score`."""
        return ratio_score(*self._table, alpha)

    def tails(self, bound: float) -> Tails:
        """Return :func:`harness.stats.ratio_tails`."""
        return ratio_tails(*self._table, bound)

    def items_needed(self, bound: float, alpha: float) -> int | None:
        """Return :func:`harness.stats.items_needed_ratio`."""
        return items_needed_ratio(*self._table, bound, alpha)


@dataclass(frozen=True, eq=False)
class MeanTest:
    """Of the mean of per-item differences ``values`` (items,), over items or over clusters of them."""

    values: Floats
    clusters: Clusters = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return over_clusters("item means", self.clusters)

    def interval(self, alpha: float) -> Interval:
        """Return :func:`harness.stats.paired_mean`."""
        return paired_mean(self.values, alpha, self.clusters)

    def tails(self, bound: float) -> Tails:
        """Return :func:`harness.stats.mean_tails`."""
        return mean_tails(self.values, bound, self.clusters)

    def items_needed(self, bound: float, alpha: float) -> int | None:
        """Return :func:`harness.stats.items_needed_mean`, in clusters like these."""
        return _items_of_mean(self.values, self.clusters, -bound, alpha)


@dataclass(frozen=True, eq=False)
class MeanRatioTest:
    """Of mean(noisy) / mean(clean) of per-item means (items,), over items or over clusters of them."""

    noisy: Floats
    clean: Floats
    clusters: Clusters = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return over_clusters("ratio of item means", self.clusters)

    def interval(self, alpha: float) -> Interval | None:
        """Return :func:`harness.stats.mean_ratio`."""
        return mean_ratio(self.noisy, self.clean, alpha, self.clusters)

    def tails(self, bound: float) -> Tails:
        """Return :func:`harness.stats.mean_ratio_tails`."""
        return mean_ratio_tails(self.noisy, self.clean, bound, self.clusters)

    def items_needed(self, bound: float, alpha: float) -> int | None:
        """Return the items at which mean(noisy - bound * clean) would be told from 0."""
        return _items_of_mean(self.noisy - bound * self.clean, self.clusters, 0.0, alpha)


@dataclass(frozen=True, eq=False)
class TwoWayTest:
    """Of the mean of ``table`` (items, noise seeds), differences whose draws all items of a seed share."""

    table: Floats
    clusters: Clusters = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return over_clusters("items by noise seeds", self.clusters)

    def interval(self, alpha: float) -> Interval:
        """Return :func:`harness.stats.two_way_mean`."""
        return two_way_mean(self.table, alpha, clusters=self.clusters)

    def tails(self, bound: float) -> Tails:
        """Return :func:`harness.stats.two_way_tails`."""
        return two_way_tails(self.table, bound, clusters=self.clusters)

    def items_needed(self, bound: float, alpha: float) -> int | None:
        """Return ``None``: more seeds may be needed as well as items."""
        return None


@dataclass(frozen=True, eq=False)
class TwoWayRatioTest:
    """Of mean(noisy) / mean(clean), ``noisy`` (items, noise seeds) with shared draws, ``clean`` (items,)."""

    noisy: Floats
    clean: Floats
    clusters: Clusters = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return over_clusters("items by noise seeds", self.clusters)

    def interval(self, alpha: float) -> Interval | None:
        """Return :func:`harness.stats.two_way_ratio`."""
        return two_way_ratio(self.noisy, self.clean, alpha, self.clusters)

    def tails(self, bound: float) -> Tails:
        """Return :func:`harness.stats.mean_ratio_tails` of the whole table."""
        return mean_ratio_tails(self.noisy, self.clean, bound, self.clusters)

    def items_needed(self, bound: float, alpha: float) -> int | None:
        """Return ``None``: more seeds may be needed as well as items."""
        return None


def over_clusters(name: str, clusters: Clusters) -> str:
    """Return ``name``, and over how many clusters where there are any."""
    return name if clusters is None else f"{name}, over {len(np.unique(clusters))} clusters"


def _items_of_mean(values: Floats, clusters: Clusters, margin: float, alpha: float) -> int | None:
    n = len(values)
    if n < 2:
        return None
    sd = float(np.std(values, ddof=1))
    if clusters is not None:
        sd = cluster_standard_error(values, clusters) * math.sqrt(n)
    return items_needed_mean(float(values.mean()), sd, margin, alpha) if math.isfinite(sd) else None
