"""Fake quantization: a tensor rounded to a number format and back, in its own dtype."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.numerics import native_quantizer
from harness.numerics.blocks import block_shape, has_outer_scale, largest_of_rows, outer_scale, quantize
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, derive_key
from harness.spec.formats import Format, Recipe

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
EAGER_CHUNK = {"cpu": 1 << 16}
"""Elements that plain tensor operators handle at once: on a CPU their temporaries then stay in the cache ..."""

EAGER_CHUNK_ELSEWHERE = 1 << 24
"""... and elsewhere they stay small against a model."""


def fake_quantize(
    x: Tensor,
    fmt: str | Format,
    scale_rule: str | None = "floor",
    rounding: str = "nearest_even",
    out: Tensor | None = None,
    key: int | DrawKey = 0,
    saturation_mask: bool = False,
) -> Tensor:
    """Return ``x`` rounded to the number format ``fmt`` and back: same shape, dtype and device, in ``out`` if given.

    ``x`` is float32, bfloat16, float16 or float64 with any number of dimensions, the last of which is the contraction
    dimension: blocks run along it and never straddle rows; what is left of a row is a block of its own. Pass the
    transpose of a weight that is stored (in, out). Two-dimensional tiles, and a scale of the whole tensor, span all
    leading dimensions as one. ``fmt`` is a name in :data:`harness.spec.formats.FORMATS` or a row of one's own.

    ``scale_rule`` (floor, even, ceil, rceil) says how a power-of-two scale follows from a block's largest magnitude,
    see :func:`harness.numerics.block_scale.shared_exponent`; other formats only take the default, which then means
    nothing. ``rounding`` is nearest_even, toward_zero or stochastic; ``key`` keys the draws of the last: equal keys
    and shapes, equal draws.

    NaN or infinity makes its block NaN; blocks of zeros stay zero; subnormals are exact; arithmetic is float32 (of
    float64: float64), rounded once to the dtype of ``x``, where results that it cannot hold become infinite
    (65504 in float16 under the rule even, say).

    The gradient passes straight through; with ``saturation_mask`` it is 0 where the element was clipped (Bengio et al.
    2013, arXiv:1308.3432; Jacob et al. 2018, arXiv:1712.05877).

    Raises ValueError for an unknown format, rule or rounding and for an ``out`` that does not fit, TypeError for
    another dtype.
    """
    recipe = Recipe.of(fmt, scale_rule, rounding)
    if x.dtype not in DTYPES:
        raise TypeError(f"dtype {x.dtype}; formats take {', '.join(str(dtype) for dtype in DTYPES)}")
    if out is None:
        after: Tensor = _StraightThrough.apply(x, recipe, key, saturation_mask)
        return after
    if (out.shape, out.dtype, out.device) != (x.shape, x.dtype, x.device):
        raise ValueError(f"out is {_kind(out)}; x is {_kind(x)}; give an empty_like(x)")
    if torch.is_grad_enabled() and (x.requires_grad or out.requires_grad):
        raise ValueError("out= with a tensor that requires a gradient; leave out= away, or detach first")
    return out.copy_(quantized(x, recipe, key)) if not out.is_contiguous() else quantized(x, recipe, key, out)


def quantized(
    x: Tensor, recipe: Recipe, key: int | DrawKey = 0, out: Tensor | None = None, per_row: bool = False
) -> Tensor:
    """Return :func:`fake_quantize` without gradients; ``out`` is contiguous.

    ``per_row`` gives every row a tensor scale of its own, so that no row depends on what else is in the batch.
    """
    x = x.detach()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
    if x.numel() == 0:
        return out
    matrix = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
    if per_row and recipe.format.rows > 1:
        raise ValueError(f"{recipe.format.name} for single rows; its tiles span several; choose a format without tiles")
    keys = draw_key(key, matrix) if recipe.rounding == "stochastic" else None
    flat = out.view(matrix.shape)
    if native_quantizer.fits(matrix, recipe, keys):
        matrix = matrix.contiguous()
        outer = _outer(matrix, recipe.format, per_row, native_quantizer.row_maxima)
        native_quantizer.quantize_rows(matrix, recipe, flat, keys, outer)
        return out
    outer = _outer(matrix, recipe.format, per_row, row_maxima)
    for rows in chunks(matrix, block_shape(recipe.format, matrix.shape)[0]):
        chunk_outer = outer[rows] if outer is not None and per_row else outer
        chunk_key = None if keys is None else keys.rows_at(rows)
        flat[rows] = quantize(matrix[rows], recipe, chunk_key, chunk_outer).values
    return out


_Maxima = Callable[[Tensor], tuple[Tensor, Tensor]]


def _outer(matrix: Tensor, fmt: Format, per_row: bool, maxima: _Maxima) -> Tensor | None:
    return outer_scale(fmt, maxima(matrix), per_row) if has_outer_scale(fmt) else None


def row_maxima(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return :func:`harness.numerics.blocks.largest_of_rows`, a chunk at a time."""
    found = [largest_of_rows(matrix[rows]) for rows in chunks(matrix, 1)]
    largest, bad = zip(*found, strict=True)
    return torch.cat(largest), torch.cat(bad)


def chunks(matrix: Tensor, height: int) -> list[slice]:
    """Return rows that are handled together: whole tiles of ``height``; all of them under a compiler, which fuses the
    code."""
    if torch.compiler.is_compiling():
        return [slice(0, matrix.shape[0])]
    chunk = EAGER_CHUNK.get(matrix.device.type, EAGER_CHUNK_ELSEWHERE)
    step = max(1, chunk // (matrix.shape[1] * height)) * height
    return [slice(start, start + step) for start in range(0, matrix.shape[0], step)]


def draw_key(key: int | DrawKey, matrix: Tensor) -> DrawKey:
    """Return the keys of the elements of ``matrix`` for stochastic rounding, from a number."""
    if isinstance(key, DrawKey):
        return key
    labels = "fake_quantize", "fake_quantize columns"
    rows, columns = (
        Keys.of(counter_keys(derive_key(label, key), _counters(count, matrix.device)))
        for label, count in zip(labels, matrix.shape, strict=True)
    )
    return DrawKey(rows.view(-1, 1), columns.view(1, -1))


def _counters(count: int, device: torch.device) -> Tensor:
    """0 to ``count - 1``, int64."""
    if torch.compiler.is_compiling():  # inductor takes sums with an arange for indices, which may not overflow
        return torch.ones(count, dtype=torch.int64, device=device).cumsum(0) - 1
    return torch.arange(count, device=device)


def _kind(x: Tensor) -> str:
    return f"{x.dtype} {tuple(x.shape)} on {x.device}"


class _StraightThrough(torch.autograd.Function):
    """Never through clamp or round: their gradients are zero almost everywhere, and differ between versions at the
    clipping point."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *given: object) -> Tensor:
        x, recipe, key, masked = given
        assert isinstance(x, Tensor) and isinstance(recipe, Recipe) and isinstance(key, int | DrawKey)
        if masked and ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            ctx.save_for_backward(saturated(x, recipe))
        return quantized(x, recipe, key)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        masks = ctx.saved_tensors  # type: ignore[attr-defined]
        gradient = gradients[0].masked_fill(masks[0], 0.0) if masks else gradients[0]
        return gradient, None, None, None


def saturated(x: Tensor, recipe: Recipe) -> Tensor:
    """Return bool, the shape of ``x``: where the element exceeds the largest value of its block before rounding."""
    if x.numel() == 0:
        return torch.zeros_like(x, dtype=torch.bool)
    matrix = x.detach().reshape(-1, x.shape[-1]) if x.ndim else x.detach().reshape(1, 1)
    still = Recipe(recipe.format, recipe.scale_rule, "nearest_even")
    return quantize(matrix, still).saturated.reshape(x.shape)
