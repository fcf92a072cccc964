"""Formulas of the faults: what clips, cuts, hits single elements, or rounds to another format.

All have the signature ``(model, x, key, strength) -> Tensor`` of :func:`harness.numerics.error_models.perturb`, which
keeps non-finite elements and strength 0 out of the result and rounds it to the dtype of ``x``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.numerics.keyed_random import DrawKey, Keys, below, normals
from harness.numerics.quantizer import quantized
from harness.numerics.row_statistics import largest_magnitude, widened
from harness.spec.errors import (
    AbsoluteSaturation,
    BitFlip,
    Deadzone,
    FakeQuant,
    Saturation,
    Spike,
    StuckAt,
    Truncation,
)

SPIKE_SALT = 1
"""Keeps the height of a spike independent of where it strikes."""


def truncation(model: Truncation, x: Tensor, key: DrawKey, step: Tensor) -> Tensor:
    """Return the exact multiple of ``step`` next to y toward zero, rounded once; -0.0 keeps its sign."""
    y = widened(x)
    # there the multiple rounds to y itself, and vectorised fmod gives NaN for quotients that overflow
    far = y.abs() * (0.25 * torch.finfo(y.dtype).eps) > step
    # not trunc(y / step) * step: a quotient that rounds up to an integer would move y away from zero
    return torch.where(far, y, torch.copysign(y - torch.fmod(y, step), y))


def deadzone(model: Deadzone, x: Tensor, key: DrawKey, threshold: Tensor) -> Tensor:
    """Return 0 where |y| is less than the fraction ``threshold`` of the row's largest magnitude."""
    y = widened(x)
    return torch.where(y.abs() < threshold * largest_magnitude(y), 0.0, y)


def saturation(model: Saturation, x: Tensor, key: DrawKey, margin: Tensor) -> Tensor:
    """Return the tensor clamped to the fraction 1 - ``margin`` of the row's largest magnitude."""
    y = widened(x)
    limit = (1 - margin) * largest_magnitude(y)
    return y.clamp(-limit, limit)


def absolute_saturation(model: AbsoluteSaturation, x: Tensor, key: DrawKey, on: Tensor) -> Tensor:
    """Return the size clamped to the model's limit."""
    return widened(x).clamp(-model.limit, model.limit)


def spike(model: Spike, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return magnitude * max|row| * z in the share ``rate`` of the elements, drawn apart from z."""
    y = widened(x)
    # the draw first: a product of magnitudes may overflow, and infinity times a draw of 0 would be NaN
    height = normals(key.rows, key.columns.salted(SPIKE_SALT)) * largest_magnitude(y) * model.magnitude
    return torch.where(below(*key, rate), height, y)


def stuck_at(model: StuckAt, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return the model's value in the share ``rate`` of the features; only the column keys say in which."""
    unkeyed = Keys(*(torch.zeros_like(half) for half in key.columns))
    return torch.where(below(unkeyed, key.columns, rate), model.value, widened(x))


def bit_flip(model: BitFlip, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return one bit of the pattern inverted in the share ``rate`` of the elements; in the dtype of ``x``.

    Raises ValueError for a bit that the dtype does not have.
    """
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    top = 8 * x.element_size() - 1
    if model.bit > top:
        raise ValueError(f"bit {model.bit} of {model.name}; {x.dtype} has the bits 0 to {top}")
    # the sign bit as a signed integer is the most negative one
    mask = 1 << model.bit if model.bit < top else -(1 << top)
    pattern = x.view(integer)
    return torch.where(below(*key, rate), pattern ^ mask, pattern).view(x.dtype)


def fake_quant(model: FakeQuant, x: Tensor, key: DrawKey, on: Tensor) -> Tensor:
    """Return the tensor rounded to the format, row by row: a tensor scale is that of the row.

    Raises ValueError for a format whose blocks span several rows.
    """
    recipe = model.recipe
    if recipe.rounding != "stochastic":
        return quantized(x, recipe, per_row=True)
    # keys of any number of dimensions, as one row key and one column key for each element
    halves = [half.expand(x.shape).reshape(-1, x.shape[-1]) for half in (*key.rows, *key.columns)]
    return quantized(x, recipe, DrawKey(Keys(*halves[:2]), Keys(*halves[2:])), per_row=True)
