"""Counts what was really injected, on the device, without a synchronisation per call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from harness.noise.sites import Site
from harness.record import SiteCount


class Seen(NamedTuple):
    """One perturbed operator call: (rows, columns) before and after."""

    site: Site
    before: Tensor
    after: Tensor


def measure(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Column sums over (rows, columns): int64 (3, columns) of changed, non-zero and non-finite elements and
    float32 (3, columns) of signal energy, error energy and squared relative error over non-zero elements.

    Written with in-place comparisons on float buffers, which run vectorised (a comparison into a bool tensor
    costs ten times as much on a CPU); counts up to 2**24 rows are exact.
    """
    y, y_after = before.float(), after.float()
    error = y_after - y
    divisor = torch.eq(y, 0, out=torch.empty_like(y))
    zeros = divisor.sum(0)
    divisor.add_(y)  # y where it is not 0, else 1
    relative = torch.div(error, divisor, out=divisor).square_().sum(0)
    scratch = torch.square(y)
    signal = scratch.sum(0)
    squared = torch.square(error, out=scratch).sum(0)
    nonfinite = torch.sub(error, error, out=scratch).ne_(0).sum(0)  # NaN and infinity differ from themselves
    changed = error.ne_(0).sum(0)
    counts = torch.stack([changed, y.shape[0] - zeros, nonfinite])
    return counts.long(), torch.stack([signal, squared, relative])


class Ledger:
    """Accumulates :class:`SiteCount` per site for one noise level at a time.

    Small calls are kept until :meth:`flush` and measured together (the cost of a decode step is calls, not
    arithmetic); large ones are measured at once. :meth:`drain` is the only method that synchronises.
    """

    def __init__(self) -> None:
        self._pending: list[Seen] = []
        self._sums: dict[tuple[Site, ...], tuple[Tensor, Tensor]] = {}
        self._calls: Counter[Site] = Counter()
        self._rows: Counter[Site] = Counter()
        self._elements: Counter[Site] = Counter()

    def note_call(self, site: Site, rows: int, elements: int) -> None:
        """Registers one operator call over ``rows`` real token rows with ``elements`` real output elements."""
        self._calls[site] += 1
        self._rows[site] += rows
        self._elements[site] += elements

    def note(self, site: Site, before: Tensor, after: Tensor) -> None:
        """Keeps (rows, columns) before and after a perturbation; masked elements are 0 in both and count nothing."""
        self._pending.append(Seen(site, before, after))

    def flush(self) -> None:
        """Measures what is pending, in one go per number of rows."""
        groups: dict[tuple[int, bool], list[Seen]] = {}
        for seen in self._pending:
            groups.setdefault((seen.before.shape[0], seen.site.grows), []).append(seen)
        self._pending.clear()
        for group in groups.values():
            sites = tuple(seen.site for seen in group)
            before = torch.cat([seen.before for seen in group], 1) if len(group) > 1 else group[0].before
            after = torch.cat([seen.after for seen in group], 1) if len(group) > 1 else group[0].after
            self._add(sites, [seen.before.shape[1] for seen in group], measure(before, after))

    def _add(self, sites: tuple[Site, ...], widths: list[int], sums: tuple[Tensor, Tensor]) -> None:
        if any(site.grows for site in sites):
            sums = _fold(sums[0], widths), _fold(sums[1], widths)
        held = self._sums.setdefault(sites, sums)
        if held is not sums:
            for total, part in zip(held, sums, strict=True):
                total.add_(part)

    def drain(self, level: float) -> Mapping[str, SiteCount]:
        """The counts since the last drain, by site name, at ``level``; the ledger is empty afterwards."""
        self.flush()
        found = {
            site: SiteCount(site.name, site.op, level, calls, self._rows[site], self._elements[site])
            for site, calls in self._calls.items()
        }
        for sites, sums in self._sums.items():
            counts, energies = sums
            if not any(site.grows for site in sites):
                widths = [site.columns for site in sites]
                counts, energies = _fold(counts, widths), _fold(energies, widths)
            for site, whole, real in zip(sites, counts.T.tolist(), energies.T.tolist(), strict=True):
                found[site] += SiteCount(site.name, site.op, level, 0, 0, 0, *whole, *real)
        for store in (self._sums, self._calls, self._rows, self._elements):
            store.clear()
        return {site.name: count for site, count in found.items()}


def _fold(sums: Tensor, widths: list[int]) -> Tensor:
    """(3, columns) -> (3, sites): the sum over the columns of each site."""
    return torch.stack([part.sum(1) for part in sums.split(widths, 1)], 1)
