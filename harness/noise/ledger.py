"""Counts what was really injected, on the device, without a synchronisation per call."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.ledger import require
from harness.noise.sites import Site
from harness.record import SiteCount

_COUNTS = 3
_MOST_PENDING = 4096
"""Calls whose sums are kept before they are folded together; a forward pass of a large model has fewer."""


@dataclass(frozen=True)
class Entry:
    """What calls are added up under: a site, a direction (forward, recompute, backward), the operand whose gradient
    it was, and the declared phase."""

    site: Site
    direction: str
    operand: str
    phase: str

    def __hash__(self) -> int:
        """Hash the site by its name: all its fields would cost more than counting a call does."""
        return hash((self.site.name, self.direction, self.operand, self.phase))


class Ledger:
    """Accumulates :class:`SiteCount` per entry, for one noise level at a time; safe to use from several threads.

    The sums of a forward pass are kept until :meth:`flush` and folded together, because the cost of a decode
    step is calls, not arithmetic. :meth:`drain` and :meth:`counts` are the only methods that synchronise.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pending: list[tuple[Entry, Tensor]] = []
        self._counts: dict[tuple[Entry, ...], Tensor] = {}
        self._energies: dict[tuple[Entry, ...], Tensor] = {}
        self._calls: dict[Entry, list[int]] = {}

    def forget(self) -> None:
        """Drop all counts without touching a device or waiting for a thread: for the child of a fork, whose parent
        counted them."""
        self._lock = threading.RLock()
        self._pending, self._counts, self._energies, self._calls = [], {}, {}, {}

    def note(self, entry: Entry, rows: int, elements: int, sums: Tensor | None) -> None:
        """Register one operator call over ``rows`` real token rows with ``elements`` real output elements.

        ``sums`` is what :meth:`harness.noise.kernel.Kernel.perturb` measured, float32 (..., 6), or None for an empty
        tensor.
        """
        with self._lock:
            found = self._calls.setdefault(entry, [0, 0, 0])
            found[0] += 1
            found[1] += rows
            found[2] += elements
            if sums is not None:
                self._pending.append((entry, sums))
            if len(self._pending) >= _MOST_PENDING:
                self.flush()

    def flush(self) -> None:
        """Fold what is pending into the accumulators, in one go per shape and device."""
        with self._lock, torch._C.DisableTorchFunction():  # under ``op:add`` these sums are none of the model's
            groups: dict[tuple[torch.Size, torch.device], list[tuple[Entry, Tensor]]] = {}
            for entry, sums in self._pending:
                groups.setdefault((sums.shape, sums.device), []).append((entry, sums))
            self._pending.clear()
            for group in groups.values():
                entries = tuple(entry for entry, _ in group)
                stacked = torch.stack([sums for _, sums in group]).flatten(1, -2)
                # each element of sums counts at most one row, so it is exact in float32; their total may not be
                self._add(self._counts, entries, stacked[..., :_COUNTS].long().sum(1))
                self._add(self._energies, entries, stacked[..., _COUNTS:].sum(1))

    @staticmethod
    def _add(held: dict[tuple[Entry, ...], Tensor], entries: tuple[Entry, ...], sums: Tensor) -> None:
        distinct = tuple(dict.fromkeys(entries))
        if len(distinct) < len(entries):  # bare function calls share few entries; their order says nothing
            place = {entry: number for number, entry in enumerate(distinct)}
            rows = torch.tensor([place[entry] for entry in entries], device=sums.device)
            entries, sums = distinct, sums.new_zeros(len(distinct), sums.shape[1]).index_add(0, rows, sums)
        if entries in held:
            held[entries] = held[entries] + sums.to(held[entries].device)
        else:
            held[entries] = sums

    def counts(self, level: float) -> Mapping[str, SiteCount]:
        """Return the counts so far, at ``level``, by :attr:`SiteCount.label` (a site's name, for forward counts)."""
        with self._lock:
            self.flush()
            process = process_name()
            found = {
                entry: SiteCount(
                    site=entry.site.name,
                    op=entry.site.op,
                    level=level,
                    layer=entry.site.layer,
                    direction=entry.direction,
                    operand=entry.operand,
                    phase=entry.phase,
                    process=process,
                    calls=numbers[0],
                    rows=numbers[1],
                    elements=numbers[2],
                )
                for entry, numbers in self._calls.items()
            }
            for entries, counts in self._counts.items():
                measured = zip(counts.tolist(), self._energies[entries].tolist(), strict=True)
                for entry, (whole, real) in zip(entries, measured, strict=True):
                    found[entry] = _measured(found[entry], whole, real)
            return {count.label: count for count in found.values()}

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Have :meth:`counts` give what is counted inside alone; afterwards that is added to what was there.

        A difference of two counts would not do: an energy that is not finite, or large, hides all that follow.
        """
        with self._lock:
            self.flush()
            before = self._counts, self._energies, self._calls
            self._counts, self._energies, self._calls = {}, {}, {}
        try:
            yield
        finally:
            with self._lock:
                self.flush()
                inside = self._counts, self._energies, self._calls
                self._counts, self._energies, self._calls = before
                for held, new in zip(before[:2], inside[:2], strict=True):
                    for entries, sums in new.items():
                        self._add(held, entries, sums)
                for entry, numbers in inside[2].items():
                    old = self._calls.get(entry, [0, 0, 0])
                    self._calls[entry] = [one + other for one, other in zip(old, numbers, strict=True)]

    def drain(self, level: float) -> Mapping[str, SiteCount]:
        """Return the counts since the last drain, as :meth:`counts`; the ledger is empty afterwards."""
        with self._lock:
            found = self.counts(level)
            for store in (self._counts, self._energies, self._calls):
                store.clear()
            return found

    def require(self, level: float, **wanted: object) -> None:
        """Do :func:`harness.ledger.require` on the counts so far."""
        require(self.counts(level).values(), **wanted)  # type: ignore[arg-type]


def _measured(count: SiteCount, whole: list[int], real: list[float]) -> SiteCount:
    """``count`` with one group of device sums (in the order of the kernel's measures) added."""
    changed, nonzero, nonfinite = whole
    signal, error, relative = real
    return replace(
        count,
        changed=count.changed + changed,
        nonzero=count.nonzero + nonzero,
        nonfinite=count.nonfinite + nonfinite,
        signal=count.signal + signal,
        error=count.error + error,
        relative=count.relative + relative,
    )


def process_name() -> str:
    """Return machine and process id: what a count of this process is booked under."""
    return f"{platform.node()}:{os.getpid()}"
