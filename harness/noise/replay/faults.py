"""The faults of :mod:`harness.spec.faults`, written out a second time: bit by bit, in plain tensor operators.

From ``docs/draws.md``: which draw decides what, and how a draw becomes a number below a bound.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.noise.replay.draws import Side, below, hashed
from harness.spec.faults import BURST

PLACE, LANE, SPECIAL, WHICH, SINGLE, SEVERAL = 2, 3, 4, 5, 6, 7
FIRST_BIT = 16
"""Salts of the draws; bit i of an event is drawn with the salt FIRST_BIT + i."""


def _under(rows: Side, columns: Side, salt: int, bound: int | Tensor) -> Tensor:
    """Return int64 from 0 to ``bound`` - 1: the draw as a fraction of 2**32, times the bound, rounded down."""
    draw = hashed(rows, columns.salted(salt)).long()
    return torch.where(draw < 0, draw + 2**32, draw).mul(bound).div(2**32, rounding_mode="floor")


def _flipped(x: Tensor, mask: Tensor) -> Tensor:
    """``x`` with the bits of ``mask`` (int64) inverted."""
    kind, width = (torch.int32, 32) if x.dtype == torch.float32 else (torch.int16, 16)
    signed = torch.where(mask >= 2 ** (width - 1), mask - 2**width, mask)
    return (x.view(kind) ^ signed.to(kind)).view(x.dtype)


def _subset(rows: Side, columns: Side, size: Tensor, width: int, most: int) -> Tensor:
    """Masks of ``size`` (int64, at most ``most``) distinct bits of ``width``: Floyd's sampling without replacement."""
    chosen = torch.zeros((*size.shape, width), dtype=torch.bool, device=size.device)
    for number in range(most):
        last = width - size + number
        drawn = _under(rows, columns, FIRST_BIT + number, last + 1).clamp(max=width - 1)
        again = chosen.gather(-1, drawn[..., None])[..., 0]
        bit = torch.where(again, last.clamp(max=width - 1), drawn)
        one = torch.zeros_like(chosen).scatter_(-1, bit[..., None], True)
        chosen |= one & (number < size)[..., None]
    return (chosen * 2 ** torch.arange(width, device=size.device)).sum(-1)


def _width(x: Tensor) -> int:
    return 32 if x.dtype == torch.float32 else 16


def bit_flips(error: Any, x: Tensor, rows: Side, columns: Side, rate: float) -> Tensor:
    """Return ``error.count`` bits of a share ``rate`` of the elements inverted."""
    width = _width(x)
    if error.pattern == BURST:
        mask = (2**error.count - 1) * 2 ** _under(rows, columns, PLACE, width - error.count + 1)
    else:
        mask = _subset(rows, columns, torch.full(x.shape, error.count, device=x.device), width, error.count)
    return torch.where(below(rows, columns, rate), _flipped(x, mask.expand(x.shape)), x)


def stuck_lane(error: Any, x: Tensor, rows: Side, columns: Side, rate: float) -> Tensor:
    """Return the elements of the site's lane at ``error.value``, in a share ``rate`` of the rows."""
    first = Side(columns.low[..., :1], columns.high[..., :1])
    nothing = Side(torch.zeros_like(first.low), torch.zeros_like(first.high))
    lane = _under(nothing, first, LANE, error.period)
    place = torch.arange(x.shape[-1], device=x.device)
    struck = below(rows, first.salted(LANE), rate) & (place.remainder(error.period) == lane)
    return torch.where(struck, error.value, x.float())


def fault_mix(error: Any, x: Tensor, rows: Side, columns: Side, rate: float) -> Tensor:
    """Return a share ``rate`` of the elements not finite, or with one or several bits inverted."""
    several = 2 + _under(rows, columns, SEVERAL, error.most - 1)
    size = torch.where(below(rows, columns.salted(SINGLE), error.single), 1, several).expand(x.shape)
    flipped = _flipped(x, _subset(rows, columns, size, _width(x), error.most))
    values = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=x.dtype, device=x.device)
    odd = values[_under(rows, columns, WHICH, 3)]
    event = torch.where(below(rows, columns.salted(SPECIAL), error.special), odd, flipped)
    return torch.where(below(rows, columns, rate), event, x)
