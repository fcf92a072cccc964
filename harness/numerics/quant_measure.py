"""Measures quantization, a chunk of rows at a time: any number of tensors add up to one :class:`QuantError`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.numerics import native_quantizer
from harness.numerics.blocks import Quantized, block_shape, has_outer_scale, outer_scale, quantize
from harness.numerics.keyed_random import DrawKey
from harness.numerics.quantizer import chunks, draw_key, row_maxima
from harness.quant_error import QuantError, sqnr_db
from harness.spec.formats import Recipe

_BINS = 1 << 19
_DROPPED_BITS = 12
"""Relative errors are counted by the upper bits of their float32 pattern: the median is right to 2**-12 of itself."""


class QuantSums:
    """Sums over what was measured; :meth:`result` may be asked for at any time."""

    def __init__(self) -> None:
        self._elements = self._zeros = self._spoiled = self._bad_blocks = self._dead = self._saturated = 0
        self._signal = self._error = self._product = self._energy = self._relative = 0.0
        self._histogram = torch.zeros(_BINS, dtype=torch.int64)

    def add(self, x: Tensor, recipe: Recipe, key: int | DrawKey = 0, per_row: bool = False) -> None:
        """Quantize ``x`` as :func:`harness.numerics.quantizer.quantized` does, and add what that changed."""
        if x.numel() == 0:
            return
        matrix = x.detach().reshape(-1, x.shape[-1]) if x.ndim else x.detach().reshape(1, 1)
        fmt = recipe.format
        keys = draw_key(key, matrix) if recipe.rounding == "stochastic" else None
        if native_quantizer.fits(matrix, recipe, keys) and block_shape(fmt, matrix.shape) != (1, 1):
            self._add_compiled(matrix.contiguous(), recipe, keys, per_row)
            return
        outer = outer_scale(fmt, row_maxima(matrix), per_row) if has_outer_scale(fmt) else None
        for rows in chunks(matrix, block_shape(fmt, matrix.shape)[0]):
            own = outer[rows] if outer is not None and per_row else outer
            after = quantize(matrix[rows], recipe, None if keys is None else keys.rows_at(rows), own)
            self._add(matrix[rows], after)

    def _add_compiled(self, x: Tensor, recipe: Recipe, keys: DrawKey | None, per_row: bool) -> None:
        fmt = recipe.format
        maxima = native_quantizer.row_maxima
        outer = outer_scale(fmt, maxima(x), per_row) if has_outer_scale(fmt) else None
        after = torch.empty_like(x)
        native_quantizer.quantize_rows(x, recipe, after, keys, outer)
        clipped, bad = native_quantizer.saturated_of_rows(x, recipe, outer)
        sums = native_quantizer.measure_rows(x, after, self._histogram).sum(0).tolist()
        zeros, dead, spoiled = (int(count) for count in sums[:3])
        self._elements += x.numel()
        self._zeros += zeros
        self._dead += dead
        self._spoiled += spoiled
        self._saturated += clipped
        self._bad_blocks += bad
        signal, error, product, energy, relative = sums[3:]
        self._signal += signal
        self._error += error
        self._product += product
        self._energy += energy
        self._relative += relative

    def _add(self, x: Tensor, after: Quantized) -> None:
        q = after.values.to(x.dtype).double()
        kept = ~after.values.isnan()
        y = torch.where(kept, x.double(), 0.0)
        q = torch.where(kept, q, 0.0)
        error = q - y
        nonzero = y != 0
        relative = (error.abs() / y.abs())[nonzero].float()
        self._elements += x.numel()
        self._spoiled += int((~kept).sum())
        self._bad_blocks += int(after.scales.isnan().sum())
        self._zeros += int((kept & ~nonzero).sum())
        self._dead += int((nonzero & (q == 0)).sum())
        self._saturated += int(after.saturated.sum())
        self._signal += float((y * y).sum())
        self._error += float((error * error).sum())
        self._product += float((y * q).sum())
        self._energy += float((q * q).sum())
        self._relative += float(relative.double().sum())
        self._histogram += torch.bincount(relative.view(torch.int32) >> _DROPPED_BITS, minlength=_BINS).cpu()

    def result(self) -> QuantError:
        """Return the metrics of all that was added."""
        finite = self._elements - self._spoiled
        nonzero = finite - self._zeros
        norm = math.sqrt(self._signal) * math.sqrt(self._energy)
        return QuantError(
            self._elements,
            self._zeros,
            self._spoiled,
            self._bad_blocks,
            sqnr_db(self._signal, self._error),
            _share(self._dead, nonzero),
            _share(self._saturated, finite),
            math.sqrt(self._error / self._signal) if self._signal else math.nan,
            self._median(nonzero),
            _share(self._relative, nonzero),
            self._product / norm if norm else math.nan,
        )

    def _median(self, count: int) -> float:
        if not count:
            return math.nan
        bin_number = int(torch.searchsorted(self._histogram.cumsum(0), (count + 1) // 2))
        middle = (bin_number << _DROPPED_BITS) + (1 << (_DROPPED_BITS - 1)) if bin_number else 0
        return float(torch.tensor(middle, dtype=torch.int32).view(torch.float32))


def measure_quantization(x: Tensor, recipe: Recipe, key: int = 0, per_row: bool = False) -> QuantError:
    """Return the metrics of one tensor; see :mod:`harness.quant_error` for their definitions."""
    sums = QuantSums()
    sums.add(x, recipe, key, per_row)
    return sums.result()


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan
