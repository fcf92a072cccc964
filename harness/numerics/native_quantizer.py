"""The compiled kernel for formats whose blocks run along a row; the same bits as :mod:`harness.numerics.blocks`."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.numerics.block_scale import E4M3, SMALLEST_REAL
from harness.numerics.blocks import has_outer_scale, largest_of_rows, outer_scale, quantize, saturation_slack
from harness.numerics.compiled_c import RowFunction, checked_functions, row_function, split_rows
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, stream_keys
from harness.spec.formats import POWER_OF_TWO, REAL, ROUNDINGS, SCALE_RULES, TWO_LEVEL, UNSCALED, WHOLE, Element, Recipe

FUNCTIONS = {torch.float32: "quantize_f32", torch.bfloat16: "quantize_bf16", torch.float16: "quantize_f16"}
LARGEST_BINADE = 100
"""Rounding adds 2**(23 - mantissa bits) binades, which must stay finite: bf16 as a format goes the eager way."""

MEASURES = 8

_KINDS = {UNSCALED: 0, POWER_OF_TWO: 1, REAL: 2, TWO_LEVEL: 3}
_OUTER = 4


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("row_low", "row_high", "column_low", "column_high", "outer")),
        *((name, ctypes.c_int64) for name in ("columns", "block")),
        *((name, ctypes.c_float) for name in ("largest", "largest_scale", "smallest_scale", "smallest_real")),
        *((name, ctypes.c_int32) for name in ("mantissa_bits", "smallest_exponent", "largest_exponent")),
        *((name, ctypes.c_int32) for name in ("kind", "rounding", "outer_rows")),
        ("up_above", ctypes.c_uint32),
        ("clipped_above", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("histogram", "sums")),
    )


def fits(x: Tensor, recipe: Recipe, key: DrawKey | None) -> bool:
    """Return True where the kernel knows the format and keys of this form, for the dtype and the device of ``x``.

    False under a compiler, which cannot trace the call and makes a kernel of its own of the eager code.
    """
    if torch.compiler.is_compiling():
        return False
    fmt = recipe.format
    whole_or_row = fmt.rows == 1 or (fmt.rows == WHOLE and fmt.columns == WHOLE)
    small = fmt.element.largest_exponent <= LARGEST_BINADE
    separable = key is None or (key.rows.low.shape, key.columns.low.shape) == ((x.shape[0], 1), (1, x.shape[1]))
    return x.device.type == "cpu" and whole_or_row and small and separable and x.dtype in _functions()


def quantize_rows(x: Tensor, recipe: Recipe, out: Tensor, key: DrawKey | None, outer: Tensor | None) -> None:
    """Write the contiguous matrix ``x`` (rows, columns) under ``recipe`` to ``out``, which may be ``x`` itself.

    ``key`` and ``outer`` are those of :func:`harness.numerics.blocks.quantize`. No temporary is made.
    """
    _run(_functions()[x.dtype], x, recipe, out, (key, outer))


def row_maxima(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return :func:`harness.numerics.blocks.largest_of_rows` of a contiguous matrix, without temporaries."""
    found = torch.empty(x.shape[0], 2)
    function, call = _function(x.dtype, "largest"), _Call(columns=x.shape[1])
    split_rows(x.shape[0], x.numel(), lambda first, last: function(call, x.data_ptr(), found.data_ptr(), first, last))
    return found[:, :1], found[:, 1:]


def saturated_of_rows(x: Tensor, recipe: Recipe, outer: Tensor | None) -> tuple[int, int]:
    """Return (elements clipped before rounding, blocks with NaN or infinity) of a contiguous matrix, for formats whose
    blocks have scales of their own."""
    found = torch.empty(x.shape[0], 2)
    call, function = _call(x, recipe, (), outer), _function(x.dtype, "saturated")
    split_rows(x.shape[0], x.numel(), lambda first, last: function(call, x.data_ptr(), found.data_ptr(), first, last))
    clipped, bad = found.double().sum(0).tolist()
    return int(clipped), int(bad)


def measure_rows(x: Tensor, after: Tensor, histogram: Tensor) -> Tensor:
    """Return the sums over each row of what changed from ``x`` to ``after`` (contiguous matrices), float64 (rows, 8).

    Zeros, zeros made, elements lost to NaN, sum x^2, sum e^2, sum x q, sum q^2, sum |e|/|x|. Relative errors are
    counted in ``histogram`` (int64, 2**19) by the upper bits of their float32 pattern.
    """
    sums = torch.empty(x.shape[0], MEASURES, dtype=torch.float64)
    call = _Call(columns=x.shape[1], histogram=histogram.data_ptr(), sums=sums.data_ptr())
    _function(x.dtype, "measure")(call, x.data_ptr(), after.data_ptr(), 0, x.shape[0])
    return sums


def _function(dtype: torch.dtype, name: str) -> RowFunction:
    function = row_function("quantize", f"{FUNCTIONS[dtype]}_{name}", _Call)
    assert function is not None
    return function


def _run(
    function: RowFunction, x: Tensor, recipe: Recipe, out: Tensor, given: tuple[DrawKey | None, Tensor | None]
) -> None:
    key, outer = given
    held = () if key is None else tuple(half.contiguous() for half in (*key.rows, *key.columns))
    call = _call(x, recipe, held, outer)
    split_rows(x.shape[0], x.numel(), lambda first, last: function(call, x.data_ptr(), out.data_ptr(), first, last))


def _call(x: Tensor, recipe: Recipe, keys: Sequence[Tensor], outer: Tensor | None) -> _Call:
    """The arguments of the kernel; the caller holds the ``keys`` while it runs."""
    fmt, element = recipe.format, recipe.format.element
    shared = None if outer is None else outer.contiguous()
    call = _Call(
        *(keys[half].data_ptr() if keys else None for half in range(4)),
        None if shared is None else shared.data_ptr(),
        x.shape[1],
        fmt.columns or x.shape[1],
        element.largest,
        E4M3.largest,
        E4M3.step,
        SMALLEST_REAL,
        element.mantissa_bits,
        element.smallest_exponent,
        element.largest_exponent,
        _OUTER if fmt.scale == REAL and has_outer_scale(fmt) else _KINDS[fmt.scale],
        ROUNDINGS.index(recipe.rounding),
        shared is not None and shared.numel() > 1,
        _up_above(element, recipe.scale_rule),
        element.largest * saturation_slack(fmt),
    )
    call.held = shared  # as long as the call lives
    return call


def _up_above(element: Element, rule: str | None) -> int:
    """The 23-bit mantissa above which the rule takes the next power of two."""
    if rule == "even":
        return (1 << 23) - (1 << (22 - element.mantissa_bits)) - 1
    if rule == "ceil":
        return 0
    if rule == "rceil":
        return int(math.ldexp(element.largest, 23 - element.largest_exponent)) - (1 << 23)
    return (1 << 23) - 1


@functools.cache
def _functions() -> dict[torch.dtype, RowFunction]:
    """dtype -> compiled function, for those that pass the comparison with the eager code."""
    return checked_functions("quantize", FUNCTIONS, _Call, _same_bits)


def _same_bits(function: RowFunction, dtype: torch.dtype) -> bool:
    """Compares the compiled function with the eager code on ordinary and special values, in every kind and rule."""
    rows, columns = 8, 77
    x = (torch.linspace(-3, 3, rows * columns) ** 5).reshape(rows, columns).to(dtype)
    x[0, :4] = torch.tensor([float("nan"), -0.0, 1e-30, 3e-39]).to(dtype)
    x[1, 40:77] = 0
    # blocks at which one of the rules goes up, and those next to it; ties of E2M1 in all of them
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]).repeat(11).to(dtype)
    for row, largest in enumerate((4.0, 6.0, 7.0, 8.0 - 4 * torch.finfo(dtype).eps), 2):
        x[row] = torch.where(ties < largest, ties, 0)
        x[row, ::16] = largest
    # ties under scales that are no powers of two: a tensor scale of 1/3, block scales from 448 down
    x[6] = ties * torch.linspace(448, 8, 5).round().repeat_interleave(16)[:columns] / 3
    x[6, ::16] = torch.linspace(896, 16, 5).to(dtype)
    rows_key = Keys.of(counter_keys(1, torch.arange(rows))).view(-1, 1)
    key = DrawKey(rows_key, stream_keys(2, columns, x.device).view(1, -1))
    for name in ("fp4_e2m1", "mxfp4", "mxfp8_e5m2", "mxint8", "nvfp4", "int8_channel", "int4_g32", "fp8_e4m3_tensor"):
        for rule in SCALE_RULES:
            for rounding in ROUNDINGS:
                try:
                    recipe = Recipe.of(name, rule, rounding)
                except ValueError:  # no rule but the default
                    continue
                out, outer = torch.empty_like(x), outer_scale(recipe.format, largest_of_rows(x))
                _run(function, x, recipe, out, (key, outer))
                wanted = quantize(x, recipe, key, outer).values.to(dtype)
                if not torch.equal(out.nan_to_num(7.5), wanted.nan_to_num(7.5)):
                    return False
    return True
