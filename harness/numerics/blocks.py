"""Quantizes to a block format with plain tensor operators: the reference that the compiled kernel must match."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.numerics.block_scale import block_scale, power_of_two, real_scale, shared_exponent, tensor_scale
from harness.numerics.keyed_random import DrawKey, Keys
from harness.numerics.rounding import round_to
from harness.spec.formats import POWER_OF_TWO, REAL, TWO_LEVEL, UNSCALED, WHOLE, Format, Recipe

SCALE_SLACK = 1 + 2.0**-21
"""A quotient by a float32 scale may exceed the largest value by rounding alone: that is not saturation."""


@dataclass(frozen=True)
class Quantized:
    """A quantized matrix, dequantized again.

    ``values`` (rows, columns) in float32 (float64 for float64), NaN in blocks that held NaN or infinity; ``scales``
    (row blocks, column blocks), that of each block (float32, for NVFP4 the product of both), NaN in those blocks.
    ``scaled`` are the elements in units of their scale, before clipping.
    """

    values: Tensor
    scales: Tensor
    scaled: Tensor
    recipe: Recipe

    @property
    def saturated(self) -> Tensor:
        """Bool, the shape of ``values``: clipped before rounding. Never in a block with NaN or infinity."""
        fmt = self.recipe.format
        return (self.scaled.abs() > fmt.element.largest * saturation_slack(fmt)) & ~self.values.isnan()


def saturation_slack(fmt: Format) -> float:
    """Return the factor by which an element may exceed the largest value before it counts as saturated."""
    return 1.0 if fmt.scale in (UNSCALED, POWER_OF_TWO) else SCALE_SLACK


def quantize(x: Tensor, recipe: Recipe, key: DrawKey | None = None, outer: Tensor | None = None) -> Quantized:
    """Return the matrix ``x`` (rows, columns; not empty) under ``recipe``. Ragged tails are blocks of their own, per
    row.

    ``key`` (halves that broadcast against ``x``, two dimensions) is read by stochastic rounding only. ``outer`` is
    the scale that a whole tensor shares, from :func:`outer_scale`; without one it is taken from ``x``.
    """
    fmt = recipe.format
    if outer is None and has_outer_scale(fmt):
        outer = outer_scale(fmt, largest_of_rows(x))
    height, width = block_shape(fmt, x.shape)
    tiles = _tiled(x if x.dtype == torch.float64 else x.float(), height, width)
    scaled, scales = _scaled(tiles, recipe, outer)
    keys = None if recipe.rounding != "stochastic" else _tiled_key(key, height, width)
    # a block with NaN or infinity has the scale NaN, which spoils all of it
    values = round_to(scaled, fmt.element, recipe.rounding, keys).mul_(scales)
    grid = scales.expand(tiles.shape[0], 1, tiles.shape[2], 1)[:, 0, :, 0]
    return Quantized(_untiled(values, x.shape), grid, _untiled(scaled, x.shape), recipe)


def outer_scale(fmt: Format, rows: tuple[Tensor, Tensor], per_row: bool = False) -> Tensor | None:
    """Return what all blocks of a matrix share: (1, 1), or (rows, 1) with ``per_row``; None where nothing is.

    NVFP4's tensor scale, or the only scale of a format that has one for the whole tensor. ``rows`` is what
    :func:`largest_of_rows` gives. NaN and infinity do not count: they spoil their block, not the tensor; where the
    tensor is the block, the scale is NaN.
    """
    if not has_outer_scale(fmt):
        return None
    largest, bad = rows if per_row else (each.amax(0, keepdim=True) for each in rows)
    if fmt.scale == TWO_LEVEL:
        return tensor_scale(largest, fmt.element)
    return torch.where(bad > 0, math.nan, real_scale(largest, fmt.element))


def has_outer_scale(fmt: Format) -> bool:
    """Return True where a scale is shared by the whole tensor."""
    return fmt.scale == TWO_LEVEL or (fmt.rows == WHOLE and fmt.columns == WHOLE)


def largest_of_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (largest finite magnitude, number of elements that are not finite) of each row of the matrix ``x``, each
    (rows, 1), float32 (of float64: float64)."""
    finite = torch.isfinite(x)
    largest = torch.where(finite, x, 0.0).abs().amax(1, keepdim=True)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return largest.to(dtype), (~finite).sum(1, keepdim=True).to(dtype)


def block_shape(fmt: Format, shape: torch.Size) -> tuple[int, int]:
    """Return rows and columns of a block in a matrix of ``shape``; elements of a tensor-wide scale are blocks of their
    own."""
    if fmt.scale == UNSCALED or (fmt.scale == REAL and has_outer_scale(fmt)):
        return 1, 1
    return fmt.rows or shape[0], fmt.columns or shape[1]


def _scaled(tiles: Tensor, recipe: Recipe, outer: Tensor | None) -> tuple[Tensor, Tensor]:
    """(elements in units of their scale, the scales); ``tiles`` is (row blocks, rows, column blocks, columns)."""
    fmt, element = recipe.format, recipe.format.element
    shared = None if outer is None else outer.reshape(-1, 1, 1, 1)
    if fmt.scale == UNSCALED:
        return tiles, torch.where(torch.isfinite(tiles), 1.0, math.nan)
    if fmt.scale == REAL and shared is not None:
        return tiles / shared, shared
    largest = tiles.abs().amax(3, keepdim=True).amax(1, keepdim=True)
    sound = torch.isfinite(largest)
    largest = torch.where(sound, largest, 0.0)
    if fmt.scale == POWER_OF_TWO:
        assert recipe.scale_rule is not None
        exponent = shared_exponent(largest, element, recipe.scale_rule)
        scale = power_of_two(exponent, tiles.dtype)
        scaled = tiles * power_of_two(-exponent, tiles.dtype)
    elif fmt.scale == REAL:
        scale = real_scale(largest, element)
        scaled = tiles / scale
    else:
        assert shared is not None
        inner = block_scale(largest, element, shared)
        scale = inner * shared
        scaled = tiles * ((1.0 / shared) / inner)  # torchao's order: a product with the reciprocal, not a quotient
    return scaled, torch.where(sound, scale, math.nan)


def _tiled(x: Tensor, height: int, width: int) -> Tensor:
    """(row blocks, height, column blocks, width), padded with zeros at the end of rows and columns."""
    rows, columns = x.shape
    below, right = -rows % height, -columns % width
    if below or right:
        x = torch.nn.functional.pad(x, (0, right, 0, below))
    return x.reshape((rows + below) // height, height, (columns + right) // width, width)


def _untiled(tiles: Tensor, shape: torch.Size) -> Tensor:
    rows, columns = shape
    return tiles.reshape(tiles.shape[0] * tiles.shape[1], -1)[:rows, :columns]


def _tiled_key(key: DrawKey | None, height: int, width: int) -> DrawKey:
    """The keys in the layout of the tiles; padding draws with the keys of zeros."""
    if key is None:
        raise ValueError("stochastic rounding draws; give a key")
    return DrawKey(*(Keys(*(_tiled_half(half, height, width) for half in keys)) for keys in key))


def _tiled_half(half: Tensor, height: int, width: int) -> Tensor:
    rows, columns = half.shape
    return _tiled(half, height if rows > 1 else 1, width if columns > 1 else 1)
