"""Perturbs a tensor and measures what that changed, in one pass: compiled where it pays, else eager.

Both ways give the same bits. A compiler costs seconds, so it is used from :data:`COMPILE_FROM` elements on; where
there is none the eager way goes on, with a line that says so.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from harness.numerics.error_models import perturb, relative_gaussian
from harness.numerics.keyed_random import DrawKey, Keys, normals
from harness.spec.errors import ErrorModel, RelativeGaussian

log = logging.getLogger(__name__)

COMPILE_FROM = 300_000_000
"""Elements after which compiling has paid for itself (about 5 ns saved each, a few seconds to compile)."""

EAGER_CHUNK = {"cpu": 1 << 16}
"""Elements that the eager way handles at once, by device: on a CPU its temporaries then stay in the cache ..."""

EAGER_CHUNK_ELSEWHERE = 1 << 24
"""... and elsewhere they stay small against the model."""

MEASURES = ("changed", "nonzero", "nonfinite", "signal", "error", "relative")
"""The sums measured, in order; the first three are counts."""


def _perturb(
    y: Tensor, row_low: Tensor, row_high: Tensor, column_low: Tensor, column_high: Tensor, scale: Tensor
) -> Tensor:
    draws = normals(Keys(row_low, row_high), Keys(column_low, column_high))
    return relative_gaussian(y, scale * draws)


def _measure(y: Tensor, after: Tensor, real: Tensor) -> Tensor:
    wide = y.float()
    error = after.float() - wide
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
    return torch.stack([torch.where(real, measure, 0.0).sum(-1) for measure in measures], -1)


def _fused(y: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    *keys_and_scale, real = rest
    after = _perturb(y, *keys_and_scale)
    return after, _measure(y, after, real)


def _in_two_steps(y: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    """For lower precisions: a compiler that fuses both would measure the error before it is rounded away."""
    *keys_and_scale, real = rest
    after = _compile(_perturb)(y, *keys_and_scale)
    return after, _compile(_measure)(y, after, real)


@functools.cache
def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


@functools.cache
def _compiler_works() -> bool:
    try:
        _compile(_measure)(torch.ones(4, 8), torch.ones(4, 8), torch.ones(4, 1, dtype=torch.bool))
    except Exception as error:  # a missing or broken compiler raises many kinds of errors
        log.warning("no working compiler (%s): noise is drawn eagerly, more slowly", type(error).__name__)
        return False
    return True


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


def _general(error: ErrorModel) -> Callable[..., tuple[Tensor, Tensor]]:
    """What ``_fused`` does, for any error model."""

    def run(y: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        row_low, row_high, column_low, column_high, level, real = rest
        key = DrawKey(Keys(row_low, row_high), Keys(column_low, column_high))
        after = perturb(error, y, key, level)
        return after, _measure(y, after, real)

    return run


class Kernel:
    """Chooses the way by the number of elements seen so far; ``compiled`` fixes it (True or False)."""

    def __init__(self, compiled: bool | None = None) -> None:
        self._seen = 0
        self._forced = compiled

    def perturb(
        self, error: ErrorModel, y: Tensor, key: DrawKey, level: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``(y', sums)``: ``y`` (2-D or more, not empty) under ``error`` of strength ``level`` (0-d float32).

        Both halves of ``key`` and ``real`` (bool, False for padding) broadcast against ``y``, with the same number of
        dimensions. ``sums`` is float32 with the last dimension of ``y`` replaced by the six :data:`MEASURES` over it,
        real elements only. Padding is perturbed too, but not measured. No temporary is larger than ``y``.
        """
        self._seen += y.numel()
        rest = (*key.rows, *key.columns, level, real.contiguous())
        if not isinstance(error, RelativeGaussian):
            return _in_chunks(_general(error), y, *rest)
        if y.ndim == 2 and y.device.type != "cpu" and self._forced is not False:
            from harness.numerics import triton_kernel  # its import costs time, and there is no Triton on a CPU

            if triton_kernel.available(y.device):
                return triton_kernel.perturb_rows(y, key.rows, key.columns, level, real.reshape(-1))
        fast = self._seen > COMPILE_FROM if self._forced is None else self._forced
        # under a dispatch mode (the auditor) a compiled function is traced anew, until the compiler gives up on it
        if fast and _get_current_dispatch_mode() is None and _compiler_works():
            return (_compile(_fused) if y.dtype == torch.float32 else _in_two_steps)(y, *rest)
        return _in_chunks(_fused, y, *rest)
