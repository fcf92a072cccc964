"""Perturbs a tensor and measures what that changed: in one pass of compiled code where there is some, else eagerly.

All ways give the same bits: C on a CPU, Triton on a GPU, plain tensor operators everywhere, a chunk at a time so that
no temporary is larger than the tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.numerics import native
from harness.numerics.error_models import perturb
from harness.numerics.keyed_random import DrawKey, Keys
from harness.numerics.quantizer import EAGER_CHUNK, EAGER_CHUNK_ELSEWHERE, quantized
from harness.spec.error_base import RELATIVE, ErrorModel
from harness.spec.formats import Recipe

MEASURES = ("changed", "nonzero", "nonfinite", "signal", "error", "relative")
"""The sums measured, in order; the first three are counts."""


def _measure(y: Tensor, after: Tensor, real: Tensor) -> Tensor:
    wide, error = (y, after - y) if y.dtype == torch.float64 else (y.float(), after.float() - y.float())
    nonzero = wide != 0
    relative = error / torch.where(nonzero, wide, 1.0)
    measures = (
        (error != 0).float(),
        nonzero.float(),
        ((error - error) != 0).float(),  # NaN and infinity differ from themselves
        wide * wide,
        error * error,
        relative * relative,
    )
    return torch.stack([torch.where(real, measure, 0.0).sum(-1).float() for measure in measures], -1)


def _measure_parts(y: Tensor, after: Tensor, real: Tensor) -> Tensor:
    """As :func:`_measure`, for models under which NaN and infinity are no accident: what was NaN and is NaN has not
    changed, and energies are those of elements that are finite before and after; all others are ``nonfinite``."""
    wide, error = (y, after - y) if y.dtype == torch.float64 else (y.float(), after.float() - y.float())
    differs = (after != y) & ~(after.isnan() & y.isnan())
    finite, nonzero = torch.isfinite(error), wide != 0
    relative = error / torch.where(nonzero, wide, 1.0)
    energies = (torch.where(finite, part * part, 0.0) for part in (wide, error, relative))
    measures = (differs.float(), nonzero.float(), (~finite).float(), *energies)
    return torch.stack([torch.where(real, measure, 0.0).sum(-1).float() for measure in measures], -1)


def _in_chunks(run: Callable[..., tuple[Tensor, Tensor]], y: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    """``run`` over chunks of rows of the first dimension; ``rest`` is cut where it has as many rows."""
    chunk = EAGER_CHUNK.get(y.device.type, EAGER_CHUNK_ELSEWHERE)
    step = max(1, chunk * y.shape[0] // max(1, y.numel()))
    if step >= y.shape[0]:
        return run(y, *rest)
    after, sums = torch.empty_like(y), []
    for start in range(0, y.shape[0], step):
        rows = slice(start, start + step)
        cut = (t[rows] if t.ndim == y.ndim and t.shape[0] == y.shape[0] else t for t in rest)
        after[rows], measured = run(y[rows], *cut)
        sums.append(measured)
    return after, torch.cat(sums)


def _eager(error: ErrorModel) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(y: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        row_low, row_high, column_low, column_high, level, real = rest
        after = perturb(error, y, DrawKey(Keys(row_low, row_high), Keys(column_low, column_high)), level)
        if error.gaussian == RELATIVE:  # the bits of the compiled ways
            return after, _measure(y, after, real)
        if error.breaks:  # NaN at padding, or in a score that a mask hides, would reach real rows: 0 times NaN is NaN
            after = torch.where(real, after, y)
        return after, _measure_parts(y, after, real)

    return run


class Kernel:
    """Chooses the way; ``compiled=False`` stays with plain tensor operators."""

    def __init__(self, compiled: bool | None = None, in_place: bool = False) -> None:
        self._compiled = compiled is not False
        self._in_place = in_place

    def perturb(
        self, error: ErrorModel, y: Tensor, key: DrawKey, level: float, real: Tensor, own: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return ``(y', sums)``: ``y`` (2-D or more, not empty) under ``error`` of strength ``level``.

        Both halves of ``key`` and ``real`` (bool, False for padding) broadcast against ``y``, with the same number of
        dimensions. ``sums`` is float32 with the last dimension of ``y`` replaced by the six :data:`MEASURES` over it,
        real elements only. Padding is perturbed too, but not measured; models that make NaN of numbers leave it
        alone. No temporary is larger than ``y``; where nobody else has ``y`` (``own``), a kernel made with
        ``in_place`` may overwrite it.
        """
        if self._compiled and error.gaussian == RELATIVE:
            if y.device.type == "cpu":
                if native.available(y.dtype) and native.fits(y, key, real):
                    return native.perturb(y, key, level, real, self._in_place and own)
            elif y.ndim == 2:
                from harness.numerics import triton_kernel  # its import costs time, and there is no Triton on a CPU

                if y.dtype in triton_kernel.DTYPES and triton_kernel.available(y.device):
                    strength = torch.full((), level, dtype=torch.float32, device=y.device)
                    return triton_kernel.perturb_rows(y, key.rows, key.columns, strength, real.reshape(-1))
        strength = torch.full((), level, dtype=torch.float32, device=y.device)
        return _in_chunks(_eager(error), y, *key.rows, *key.columns, strength, real)

    def quantize(
        self, recipe: Recipe, y: Tensor, key: DrawKey, level: float, turned: bool = False, count: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return ``(y', sums)`` as :meth:`perturb` gives them, for a weight ``y`` (rows, columns), quantized as a
        whole.

        Tiles and tensor scales span all of it, or each of ``count`` matrices that lie one below the other in ``y``.
        ``turned`` weights are stored (in, out): their blocks run along the first dimension.
        """
        if level:
            height = y.shape[0] // count
            after = torch.empty_like(y)
            for start in range(0, y.shape[0], height):
                rows = slice(start, start + height)
                after[rows] = _quantized(recipe, y[rows], key.rows_at(rows), turned)
        else:
            after = y.clone()
        everything = torch.ones(y.shape[0], 1, dtype=torch.bool, device=y.device)
        return _in_chunks(lambda before, *rest: (rest[0], _measure(before, *rest)), y, after, everything)


def _quantized(recipe: Recipe, y: Tensor, key: DrawKey, turned: bool) -> Tensor:
    matrix = y.t().contiguous() if turned else y
    draws = DrawKey(_turned(key.columns), _turned(key.rows)) if turned else key
    after = quantized(matrix, recipe, draws)
    return torch.where(torch.isfinite(y), after.t() if turned else after, y)


def _turned(keys: Keys) -> Keys:
    return keys.view(*reversed(keys.low.shape))
