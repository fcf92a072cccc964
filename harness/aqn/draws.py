"""Gaussian draws of AQN, a pure function of (seed, step, layer name, element): the same on any shard, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.numerics import native
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, derive_key, normals

CHUNK = 1 << 18
"""Elements drawn at once."""

_UNIT = 2.0**40
"""A strength beside which the 1 of a perturbed 1 is lost to rounding, so that the draw itself is left."""


@dataclass(frozen=True)
class Region:
    """Where a tensor lies in its whole weight: the shape of the whole, and the offset of the tensor in each dimension.

    An element is known by its row (all dimensions but the last, in row-major order) and its column.
    """

    shape: tuple[int, ...]
    whole: tuple[int, ...]
    offset: tuple[int, ...]

    @classmethod
    def all_of(cls, tensor: Tensor) -> Region:
        """Return the region of a tensor that is the whole weight."""
        shape = tuple(tensor.shape)
        return cls(shape, shape, (0,) * len(shape))

    def rows(self, device: torch.device) -> Tensor:
        """Return the row of the whole weight for each row here, int64."""
        found = torch.zeros(1, dtype=torch.int64, device=device)
        for size, whole, offset in zip(self.shape[:-1], self.whole[:-1], self.offset[:-1], strict=True):
            here = torch.arange(offset, offset + size, dtype=torch.int64, device=device)
            found = (found[:, None] * whole + here).reshape(-1)
        return found

    def columns(self, device: torch.device) -> Tensor:
        """Return the column of the whole weight for each column here, int64."""
        return torch.arange(self.offset[-1], self.offset[-1] + self.shape[-1], dtype=torch.int64, device=device)


def draws(seed: int, step: int, name: str, region: Region, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, standard normal draws float32 (rows, columns)) that cover ``region`` of the weight ``name``."""
    key = derive_key("aqn", seed, step, name)
    rows = Keys.of(counter_keys(key, region.rows(device)))
    columns = Keys.of(counter_keys(derive_key("aqn columns", seed, step, name), region.columns(device))).view(1, -1)
    count, width = rows.low.numel(), region.shape[-1]
    step_rows = max(1, CHUNK // max(1, width))
    for start in range(0, count, step_rows):
        part = slice(start, min(count, start + step_rows))
        yield part, _normals(Keys(rows.low[part, None], rows.high[part, None]), columns)


def _normals(rows: Keys, columns: Keys) -> Tensor:
    """The draws of all pairs: of the compiled kernel where there is one, which gives the same bits."""
    shape = (rows.low.shape[0], columns.low.shape[1])
    if rows.low.device.type != "cpu" or not native.available(torch.float32):
        return normals(rows, columns)
    real = torch.ones(shape[0], 1, dtype=torch.bool)
    ones = torch.ones(shape, dtype=torch.float32)
    drawn, _ = native.perturb(ones, DrawKey(rows, columns), _UNIT, real, in_place=True)
    return drawn.sub_(1).mul_(1 / _UNIT)
