"""The CPU kernel: relative noise and its measurement in one pass, in C.

Without a C compiler, or where its result does not give the bits of the eager code, the caller goes on eagerly.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from harness.numerics.compiled_c import RowFunction, checked_functions, split_rows
from harness.numerics.error_models import relative_gaussian
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, normals, stream_keys

FUNCTIONS = {torch.float32: "perturb_f32", torch.bfloat16: "perturb_bf16", torch.float16: "perturb_f16"}
MEASURES = 6


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("row_low", "row_high", "column_low", "column_high", "real", "sums")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int64) for name in ("heads", "tokens", "columns")),
        *((name, ctypes.c_int32) for name in ("shared_columns", "masked")),
    )


def available(dtype: torch.dtype) -> bool:
    """Return True where the kernel can be compiled here and gives the bits of the eager code for ``dtype``."""
    return dtype in _functions()


def perturb(y: Tensor, key: DrawKey, scale: float, real: Tensor, in_place: bool = False) -> tuple[Tensor, Tensor]:
    """Return ``(y', sums)`` of :class:`harness.noise.kernel.Kernel` for a CPU tensor ``y`` whose dtype is
    :func:`available`.

    ``y`` is (rows, columns) with row keys (rows, 1), column keys (1, columns) and ``real`` (rows, 1), or attention
    scores (batch, heads, tokens, keys) with row keys (batch, 1, tokens, 1), column keys (batch, heads, 1, keys) and
    ``real`` (batch, 1, tokens, keys); see :func:`fits`. ``scale`` is rounded to float32. With ``in_place`` a contiguous
    ``y`` is overwritten and returned. No temporary is larger than ``y``.
    """
    y = y.contiguous()
    after = y if in_place else torch.empty_like(y)
    sums = torch.empty((*y.shape[:-1], MEASURES), dtype=torch.float32)
    (row_low, row_high), (column_low, column_high) = key
    held = row_low.contiguous(), row_high.contiguous(), column_low.contiguous(), column_high.contiguous()
    seen, scores = real.contiguous(), y.ndim == 4
    call = _Call(
        *(half.data_ptr() for half in held),
        seen.data_ptr(),
        sums.data_ptr(),
        scale,
        y.shape[1] if scores else 1,
        y.shape[-2],
        y.shape[-1],
        not scores,
        scores,
    )
    function = _functions()[y.dtype]
    rows = y.numel() // max(1, y.shape[-1])
    given, made = y.data_ptr(), after.data_ptr()
    split_rows(rows, y.numel(), lambda first, last: function(call, given, made, first, last))
    return after, sums


def fits(y: Tensor, key: DrawKey, real: Tensor) -> bool:
    """Return True for the two arrangements that :func:`perturb` knows."""
    rows, columns, seen = key.rows.low.shape, key.columns.low.shape, real.shape
    if y.ndim == 2:
        height, width = y.shape
        return rows == seen == (height, 1) and columns == (1, width)
    if y.ndim == 4:
        batch, heads, tokens, keys = y.shape
        return rows == (batch, 1, tokens, 1) and columns == (batch, heads, 1, keys) and seen == (batch, 1, tokens, keys)
    return False


@functools.cache
def _functions() -> dict[torch.dtype, RowFunction]:
    """dtype -> compiled function, for those that pass the comparison with the eager code."""
    return checked_functions("perturb", FUNCTIONS, _Call, _same_bits)


def _same_bits(function: RowFunction, dtype: torch.dtype) -> bool:
    """Compares both loops of the compiled function, that of rows and that of masked elements, with the eager code on
    ordinary and special values; of the sums, the elements that changed."""
    rows, columns = 3, 67
    y = torch.linspace(-3, 3, rows * columns).reshape(rows, columns).to(dtype)
    y[0, :5] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-30]).to(dtype)
    key = DrawKey(
        Keys.of(counter_keys(1, torch.arange(rows))).view(-1, 1), stream_keys(2, columns, y.device).view(1, -1)
    )
    wanted = relative_gaussian(y, torch.tensor(0.05) * normals(*key))
    differs = (wanted.float() - y.float()) != 0  # what is not finite differs from itself
    some = torch.arange(rows * columns).reshape(rows, columns) % 3 > 0
    for masked, real in ((False, torch.ones(rows, 1, dtype=torch.bool)), (True, some)):
        after, sums = torch.empty_like(y), torch.empty(rows, MEASURES)
        held = [half.contiguous() for half in (*key.rows, *key.columns, real)]
        pointers = (half.data_ptr() for half in held)
        call = _Call(*pointers, sums.data_ptr(), 0.05, 1, rows, columns, not masked, masked)
        function(call, y.data_ptr(), after.data_ptr(), 0, rows)
        if not torch.equal(after.nan_to_num(7.0), wanted.nan_to_num(7.0)) or not torch.equal(
            after.isnan(), wanted.isnan()
        ):
            return False
        if not torch.equal(sums[:, 0], (differs & real).sum(-1).float()):
            return False
    return True
