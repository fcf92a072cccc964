"""What is done to a weight: keep its clean bits, add the noise, measure what it changed; put the clean bits back.

In C on a CPU, in torch elsewhere, with the same bits. A large weight is gone through in pieces that stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.aqn.digest import by_rows, digest, hashes_of
from harness.aqn.dose import spread_of
from harness.numerics import native_weights
from harness.numerics.keyed_random import DrawKey, Keys, normals

CHUNK, CHUNK_ELSEWHERE = 1 << 18, 1 << 24
"""Bytes that are worked on at once: on a CPU, where they stay in its cache, and on an accelerator."""

CANCELS = 1e-4
"""A variance below this fraction of the mean square is computed again, without the cancellation of a single pass."""


class Work(Protocol):
    """One weight and its clean copy, in rows. ``done`` rows have been taken so far."""

    done: int

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Yield (first row, last row) that cover the weight, in order."""
        ...

    def take(self, first: int, last: int) -> None:
        """Keep the clean bits of rows."""
        ...

    def noise(self, first: int, last: int, key: DrawKey, asked: float) -> None:
        """Write clean rows plus ``asked`` times their draws: drawn and added in float32, rounded once."""
        ...

    def measure(self, first: int, last: int) -> None:
        """Compare rows of the weight with the clean ones."""
        ...

    def change(self) -> tuple[int, float, float]:
        """Return (changed elements, sum of dw, sum of its squares) of what was measured."""
        ...

    def moments(self) -> tuple[float, float]:
        """Return (mean, mean square) of the clean values; not finite where one of them is not."""
        ...

    def clean_digest(self) -> str:
        """Return the digest of the clean weight."""
        ...

    def written_digest(self) -> str:
        """Return the digest of the weight as it was measured."""
        ...

    def restore(self, now: Tensor) -> tuple[bool, str]:
        """Put the clean bits back to ``now`` where it holds what was written, in a large weight row by row.

        Return whether all of it does, and the digest of what stands there then.
        """
        ...

    def spare(self) -> Spare:
        """Return the memory of the clean bits, for the next time."""
        ...

    def undo(self, now: Tensor) -> None:
        """Put back the rows that were taken, whatever stands there."""
        ...


@dataclass(frozen=True)
class Spare:
    """Memory for clean bits, and the hashes of the rows of what it holds from before, None where they are not known."""

    clean: Tensor
    hashes: Tensor | None = None


def work_on(target: Tensor, source: Tensor, spare: Spare) -> Work:
    """Return the work on ``target``, whose clean bits are those of ``source`` and are kept in ``spare``.

    ``target`` is ``source``, or a float32 copy of it.
    """
    native = target is source and native_weights.available(target) and native_weights.available(spare.clean)
    return _Native(target, spare) if native and target.numel() else _Eager(target, source, spare.clean)


def spread(work: Work, clean: Tensor, is_norm: bool) -> float:
    """Return what :func:`harness.aqn.dose.spread_of` does, from the moments of one pass where they suffice."""
    mean, square = work.moments()
    if is_norm or not math.isfinite(square):
        return math.sqrt(square) if square >= 0 else square
    variance = square - mean * mean
    return spread_of(clean, is_norm) if variance < CANCELS * square else math.sqrt(variance)


class _Work:
    """What both kinds share: tensors, progress, digests and the way back."""

    def __init__(self, target: Tensor, source: Tensor, clean: Tensor) -> None:
        self._target, self._source, self._clean = target, source, clean
        self._hashes: Tensor | None = None
        self._written = ""
        self.done = 0

    def pieces(self) -> Iterator[tuple[int, int]]:
        columns = max(1, self._target.shape[-1])
        size = CHUNK if self._target.device.type == "cpu" else CHUNK_ELSEWHERE
        step = max(1, size // (columns * self._target.element_size()))
        rows = self._target.numel() // columns
        for first in range(0, rows, step):
            yield first, min(rows, first + step)

    def clean_digest(self) -> str:
        return digest(self._clean)

    def written_digest(self) -> str:
        self._hashes = (
            self._hashes if self._hashes is not None or not by_rows(self._target) else hashes_of(self._target)
        )
        self._written = digest(self._target, self._hashes)
        return self._written

    def restore(self, now: Tensor) -> tuple[bool, str]:
        if (now.shape, now.dtype, now.device) != (self._clean.shape, self._clean.dtype, self._clean.device):
            return False, digest(now)
        if self._hashes is None:
            if digest(now) != self._written:
                return False, self._written
            now.copy_(self._clean)
            return True, digest(now)
        if native_weights.available(now) and native_weights.available(self._clean):
            others, rows = native_weights.restore_rows(_matrix(self._clean), _matrix(now), self._hashes)
            return others == 0, digest(now, rows)
        same = hashes_of(now) == self._hashes
        width = now.shape[-1]
        kept = torch.where(same.view(-1, 1), self._clean.reshape(-1, width), now.reshape(-1, width))
        now.copy_(kept.view(now.shape))
        return bool(same.all()), digest(now)

    def spare(self) -> Spare:
        return Spare(self._clean)

    def undo(self, now: Tensor) -> None:
        if self.done:
            _rows(now, 0, self.done).copy_(_rows(self._clean, 0, self.done))


class _Native(_Work):
    def __init__(self, target: Tensor, spare: Spare) -> None:
        super().__init__(target, target, spare.clean)
        tables = _matrix(target), _matrix(spare.clean)
        self._passes = native_weights.Passes(*tables, by_rows(target), spare.hashes)
        self._hashes = self._passes.written_hashes

    def take(self, first: int, last: int) -> None:
        self._passes.take(first, last)
        self.done = last

    def noise(self, first: int, last: int, key: DrawKey, asked: float) -> None:
        self._passes.noise(first, last, key, asked)

    def measure(self, first: int, last: int) -> None:
        self._passes.measure(first, last)

    def change(self) -> tuple[int, float, float]:
        return self._passes.change

    def moments(self) -> tuple[float, float]:
        total, square = self._passes.moments
        return total / self._target.numel(), square / self._target.numel()

    def clean_digest(self) -> str:
        return digest(self._clean, self._passes.clean_hashes)

    def spare(self) -> Spare:
        whole = self.done == self._target.numel() // self._target.shape[-1]
        return Spare(self._clean, self._passes.clean_hashes if whole else None)


class _Eager(_Work):
    def __init__(self, target: Tensor, source: Tensor, clean: Tensor) -> None:
        super().__init__(target, source, clean)
        self._wide = torch.float64 if target.dtype == torch.float64 else torch.float32
        self._sums = torch.zeros(3, dtype=torch.float64, device=target.device)

    def take(self, first: int, last: int) -> None:
        _rows(self._clean, first, last).copy_(_rows(self._source, first, last))
        self.done = last

    def noise(self, first: int, last: int, key: DrawKey, asked: float) -> None:
        rows = Keys(key.rows.low[first:last], key.rows.high[first:last])
        moved = normals(rows, key.columns).mul_(asked) + _rows(self._clean, first, last)
        _rows(self._target, first, last).copy_(moved)

    def measure(self, first: int, last: int) -> None:
        after, before = (_rows(each, first, last).to(self._wide) for each in (self._target, self._clean))
        change = after - before
        self._sums += torch.stack([(change != 0).sum(), change.sum(), change.square().sum()]).double()

    def change(self) -> tuple[int, float, float]:
        changed, total, energy = self._sums.tolist()
        return int(changed), total, energy

    def moments(self) -> tuple[float, float]:
        wide = self._clean.double()
        return float(wide.mean()), float(wide.square().mean())


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.view(-1, tensor.shape[-1])


def _rows(tensor: Tensor, first: int, last: int) -> Tensor:
    """Rows of ``tensor`` that share its memory, also where it is not contiguous."""
    if tensor.ndim == 1:
        return tensor[None]
    return (tensor if tensor.ndim == 2 else _matrix(tensor))[first:last]
