"""Counts what was really injected, on the device, without a synchronisation per call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from harness.noise.sites import Site
from harness.record import SiteCount

_COUNTS = 3


class Ledger:
    """Accumulates :class:`SiteCount` per site, for one noise level at a time.

    The sums of a forward pass are kept until :meth:`flush` and folded together, because the cost of a decode
    step is calls, not arithmetic. :meth:`drain` is the only method that synchronises.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Site, Tensor]] = []
        self._counts: dict[tuple[Site, ...], Tensor] = {}
        self._energies: dict[tuple[Site, ...], Tensor] = {}
        self._calls: Counter[Site] = Counter()
        self._rows: Counter[Site] = Counter()
        self._elements: Counter[Site] = Counter()

    def note(self, site: Site, rows: int, elements: int, sums: Tensor) -> None:
        """Registers one operator call over ``rows`` real token rows with ``elements`` real output elements.

        ``sums`` is what :meth:`harness.noise.kernel.Kernel.perturb` measured, float32 (..., 6).
        """
        self._calls[site] += 1
        self._rows[site] += rows
        self._elements[site] += elements
        self._pending.append((site, sums))

    def flush(self) -> None:
        """Folds what is pending into the accumulators, in one go per shape."""
        groups: dict[torch.Size, list[tuple[Site, Tensor]]] = {}
        for entry in self._pending:
            groups.setdefault(entry[1].shape, []).append(entry)
        self._pending.clear()
        for group in groups.values():
            sites = tuple(site for site, _ in group)
            stacked = torch.stack([sums for _, sums in group]).flatten(1, -2)
            # each element of sums counts at most one row, so it is exact in float32; their total may not be
            self._add(self._counts, sites, stacked[..., :_COUNTS].long().sum(1))
            self._add(self._energies, sites, stacked[..., _COUNTS:].sum(1))

    @staticmethod
    def _add(held: dict[tuple[Site, ...], Tensor], sites: tuple[Site, ...], sums: Tensor) -> None:
        if sites in held:
            held[sites] += sums
        else:
            held[sites] = sums

    def drain(self, level: float) -> Mapping[str, SiteCount]:
        """The counts since the last drain, by site name, at ``level``; the ledger is empty afterwards."""
        self.flush()
        found = {
            site: SiteCount(site.name, site.op, level, calls, self._rows[site], self._elements[site])
            for site, calls in self._calls.items()
        }
        for sites, counts in self._counts.items():
            measured = zip(counts.tolist(), self._energies[sites].tolist(), strict=True)
            for site, (whole, real) in zip(sites, measured, strict=True):
                found[site] += SiteCount(site.name, site.op, level, 0, 0, 0, *whole, *real)
        for store in (self._counts, self._energies, self._calls, self._rows, self._elements):
            store.clear()
        return {site.name: count for site, count in found.items()}
