"""The formulas of the error models, written out: what ``harness.spec.errors`` says, in plain tensor operators.

Which of them a model has, its class says (``replayed_by``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.extensions import resolve
from harness.noise.replay import formats
from harness.noise.replay.draws import Side, below, normal
from harness.spec.errors import ErrorModel

SPIKE_HEIGHT = 1
"""The salt of a spike's height, whose place is drawn without one."""


def perturbed(error: ErrorModel, x: Tensor, rows: Side, columns: Side, level: float) -> Tensor:
    """Return ``x`` (rows in the last dimension) with ``error`` of strength ``level``, in the dtype of ``x``.

    The sides broadcast against ``x``. Computes in float32 and rounds once. NaN and infinity stay, and so does all at
    strength 0. Raises TypeError for an error model without a second formula.
    """
    if not error.replayed_by:
        raise TypeError(f"error model {error.name} {error.not_replayed or 'names no second formula (replayed_by)'}")
    formula = resolve(error.replayed_by)
    if level == 0:
        return x
    strength = float(torch.tensor(level, dtype=torch.float32))
    after: Tensor = formula(error, x, rows, columns, strength).to(x.dtype)
    if torch.isfinite(x.float().sum()):  # one pass; a sum that overflows only takes the longer way
        return after
    return torch.where(torch.isfinite(x), after, x)


def _relative_gaussian(error: Any, x: Tensor, rows: Side, columns: Side, scale: float) -> Tensor:
    y = x.float()
    return normal(rows, columns).mul_(scale).mul_(y).add_(y)


def _absolute_gaussian(error: Any, x: Tensor, rows: Side, columns: Side, scale: float) -> Tensor:
    return x.float() + normal(rows, columns).mul_(scale)


def _systematic_bias(error: Any, x: Tensor, rows: Side, columns: Side, scale: float) -> Tensor:
    y = x.float()
    return torch.where(y > 0, y + scale, torch.where(y < 0, y - scale, y))


def _relative_bias(error: Any, x: Tensor, rows: Side, columns: Side, scale: float) -> Tensor:
    y = x.float()
    return y + y * scale


def _spread_bias(error: Any, x: Tensor, rows: Side, columns: Side, scale: float) -> Tensor:
    y = x.float()
    spread = torch.stack([row[torch.isfinite(row)].double().var(correction=0).sqrt() for row in _each_row(y)])
    return y + scale * spread.float().view(*y.shape[:-1], 1)


def _each_row(y: Tensor) -> Tensor:
    return y.reshape(-1, y.shape[-1])


def _truncation(error: Any, x: Tensor, rows: Side, columns: Side, step: float) -> Tensor:
    wide = x.double()
    multiple = torch.copysign((wide - torch.fmod(wide, step)).float(), x.float())
    far = x.float().abs() * (0.25 * torch.finfo(torch.float32).eps) > step  # there the multiple rounds to x itself
    return torch.where(far, x.float(), multiple)


def _largest(y: Tensor) -> Tensor:
    return y.abs().masked_fill(~torch.isfinite(y), 0.0).max(-1, keepdim=True).values


def _deadzone(error: Any, x: Tensor, rows: Side, columns: Side, threshold: float) -> Tensor:
    y = x.float()
    return y.masked_fill(y.abs() < threshold * _largest(y), 0.0)


def _saturation(error: Any, x: Tensor, rows: Side, columns: Side, margin: float) -> Tensor:
    y = x.float()
    limit = float(torch.tensor(1.0) - torch.tensor(margin)) * _largest(y)
    return torch.minimum(torch.maximum(y, -limit), limit)


def _absolute_saturation(error: Any, x: Tensor, rows: Side, columns: Side, on: float) -> Tensor:
    return x.float().clamp(-error.limit, error.limit)


def _spike(error: Any, x: Tensor, rows: Side, columns: Side, rate: float) -> Tensor:
    y = x.float()
    height = normal(rows, columns.salted(SPIKE_HEIGHT)) * _largest(y) * error.magnitude
    return torch.where(below(rows, columns, rate), height, y)


def _stuck_at(error: Any, x: Tensor, rows: Side, columns: Side, rate: float) -> Tensor:
    nothing = Side(torch.zeros_like(columns.low), torch.zeros_like(columns.high))
    return torch.where(below(nothing, columns, rate), error.value, x.float())


def _bit_flip(error: Any, x: Tensor, rows: Side, columns: Side, rate: float) -> Tensor:
    kind, width = (torch.int32, 32) if x.dtype == torch.float32 else (torch.int16, 16)
    flip = 1 << error.bit
    mask = flip - (1 << width) if error.bit == width - 1 else flip
    pattern = x.view(kind)
    return torch.where(below(rows, columns, rate), pattern ^ mask, pattern).view(x.dtype)


def _fake_quant(error: Any, x: Tensor, rows: Side, columns: Side, on: float) -> Tensor:
    return formats.quantized(x, error.recipe, rows, columns, by_row=True)
