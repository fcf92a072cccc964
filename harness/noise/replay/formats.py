"""Fake quantization, written out: the scale of a block, the elements in its units, the nearest values of the format."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.noise.replay.draws import Side, hashed
from harness.spec.formats import ELEMENTS, POWER_OF_TWO, REAL, TWO_LEVEL, UNSCALED, WHOLE, Element, Recipe

SMALLEST_SCALE, SMALLEST_TENSOR_SCALE = 2.0**-149, 2.0**-118
E4M3 = ELEMENTS["fp8_e4m3"]


def quantized(x: Tensor, recipe: Recipe, rows: Side, columns: Side, *, by_row: bool) -> Tensor:
    """Return ``x`` rounded to the format of ``recipe`` and back, in its own dtype; blocks run along the last dimension.

    ``by_row`` gives every row a tensor scale of its own, as results and inputs have; a weight has one in all. The sides
    key the draws of stochastic rounding and are not read by the other roundings.
    """
    matrix = x.reshape(-1, x.shape[-1])
    bits = None
    if recipe.rounding == "stochastic":
        bits = hashed(rows, columns).expand(x.shape).reshape(matrix.shape)
    return _matrix(matrix.float(), recipe, bits, by_row).to(x.dtype).view(x.shape)


def _matrix(matrix: Tensor, recipe: Recipe, bits: Tensor | None, by_row: bool) -> Tensor:
    fmt = recipe.format
    whole = fmt.scale == TWO_LEVEL or (fmt.scale == REAL and fmt.rows == WHOLE and fmt.columns == WHOLE)
    outer = _outer(matrix, recipe, by_row) if whole else None
    if fmt.scale == UNSCALED:
        values = rounded(matrix, fmt.element, recipe.rounding, bits)
        return values.masked_fill(~torch.isfinite(matrix), math.nan)
    if fmt.scale == REAL and whole:
        assert outer is not None
        return rounded(matrix / outer, fmt.element, recipe.rounding, bits) * outer
    out = torch.empty_like(matrix)
    height, width = fmt.rows or matrix.shape[0], fmt.columns or matrix.shape[1]
    for top in range(0, matrix.shape[0], matrix.shape[0] if height == 1 else height):
        for left in range(0, matrix.shape[1], width):
            place = slice(top, matrix.shape[0] if height == 1 else top + height), slice(left, left + width)
            own = outer if outer is None or outer.shape[0] == 1 else outer[place[0]]
            drawn = None if bits is None else bits[place]
            out[place] = _block(matrix[place], recipe, own, drawn, (1,) if height == 1 else (0, 1))
    return out


def _block(block: Tensor, recipe: Recipe, outer: Tensor | None, bits: Tensor | None, over: tuple[int, ...]) -> Tensor:
    """One column of blocks (a row each), or one tile."""
    fmt, element = recipe.format, recipe.format.element
    largest = block.abs().amax(over, keepdim=True)
    sound = torch.isfinite(largest)
    largest = largest.masked_fill(~sound, 0.0)
    if fmt.scale == POWER_OF_TWO:
        exponent = _power(largest, element, str(recipe.scale_rule))
        scaled, scale = (
            torch.ldexp(block.double(), -exponent).float(),
            torch.ldexp(torch.ones_like(exponent, dtype=torch.float64), exponent),
        )
        values = (rounded(scaled, element, recipe.rounding, bits).double() * scale).float()
        return values.masked_fill(~sound, math.nan)
    if fmt.scale == REAL:
        scale = (largest / element.largest).clamp(min=SMALLEST_SCALE)
        scaled = block / scale
    else:
        assert outer is not None
        inner = rounded(((largest / element.largest) / outer).clamp(E4M3.step, E4M3.largest), E4M3)
        scale = inner * outer
        scaled = block * ((1.0 / outer) / inner)
    values = rounded(scaled, element, recipe.rounding, bits) * scale
    return values.masked_fill(~sound, math.nan)


def _outer(matrix: Tensor, recipe: Recipe, by_row: bool) -> Tensor:
    """The scale of the tensor, or of each row: (1, 1) or (rows, 1)."""
    element = recipe.format.element
    finite = torch.isfinite(matrix)
    largest = matrix.abs().masked_fill(~finite, 0.0).amax((1,) if by_row else (0, 1), keepdim=True)
    if recipe.format.scale == TWO_LEVEL:
        return (largest / (E4M3.largest * element.largest)).clamp(min=SMALLEST_TENSOR_SCALE)
    scale = (largest / element.largest).clamp(min=SMALLEST_SCALE)
    return scale.masked_fill(~finite.all(1, keepdim=True) if by_row else ~finite.all(), math.nan)


def _power(largest: Tensor, element: Element, rule: str) -> Tensor:
    """The exponent of a power-of-two scale, int64 in [-127, 127]: floor, even, ceil or rceil of the largest one."""
    mantissa, exponent = torch.frexp(largest.double())
    mantissa, exponent = 2 * mantissa, exponent.long() - 1
    limit = {
        "floor": math.inf,
        "even": 2 - 2.0 ** -(element.mantissa_bits + 1),
        "ceil": math.nextafter(1.0, 2.0),
        "rceil": math.nextafter(element.largest / 2.0**element.largest_exponent, 4.0),
    }[rule]
    raised = exponent + (mantissa >= limit) - element.largest_exponent
    return torch.where(largest > 0, raised, -127).clamp(-127, 127)


def rounded(y: Tensor, element: Element, rounding: str = "nearest_even", bits: Tensor | None = None) -> Tensor:
    """Return ``y`` (float32) at the values of ``element``: clipped, then to the nearest (ties to even), toward zero, or
    up with the probability of the distance, by the upper 24 of the 32 ``bits``."""
    magnitude = y.double().abs().clamp(max=element.largest)
    exponent = (torch.frexp(magnitude).exponent.long() - 1).clamp(min=element.smallest_exponent)
    exponent = torch.where(magnitude > 0, exponent, element.smallest_exponent)
    units = torch.ldexp(magnitude, element.mantissa_bits - exponent)
    if rounding == "nearest_even":
        steps = units.round()
    elif rounding == "toward_zero":
        steps = units.floor()
    else:
        assert bits is not None
        uniform = ((bits.long() >> 8) & 0xFFFFFF).double() * 2.0**-24
        steps = units.floor() + (uniform < units - units.floor())
    return torch.copysign(torch.ldexp(steps, exponent - element.mantissa_bits), y.double()).float()
