"""Gaussian draws of AQN, a pure function of (seed, step, layer name, element): the same on any shard, in any order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.numerics import native_weights
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, derive_key


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


def draw_keys(seed: int, step: int, name: str, region: Region, device: torch.device) -> DrawKey:
    """Return the keys of the draws that cover ``region`` of the weight ``name``: rows (n, 1), columns (1, m)."""
    row_key, column_key = derive_key("aqn", seed, step, name), derive_key("aqn columns", seed, step, name)
    if len(region.shape) <= 2:
        count, first = (region.shape[0], region.offset[0]) if len(region.shape) == 2 else (1, 0)
        rows = _counters(row_key, first, count, device)
    else:
        rows = Keys.of(counter_keys(row_key, region.rows(device)))
    columns = _counters(column_key, region.offset[-1], region.shape[-1], device)
    return DrawKey(rows.view(-1, 1), columns.view(1, -1))


def _counters(key: int, first: int, count: int, device: torch.device) -> Keys:
    found = native_weights.counters(key, first, count) if device.type == "cpu" else None
    if found is None:
        found = Keys.of(counter_keys(key, torch.arange(first, first + count, dtype=torch.int64, device=device)))
    return found
