"""The one home of the error formulas: one function for all models, and the formulas of the smooth ones.

Which formula a model has, its class says (``computed_by``). The faults are in :mod:`harness.numerics.faults`; the
models as data in :mod:`harness.spec.errors`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness import extensions
from harness.numerics.keyed_random import DrawKey, normals
from harness.numerics.row_statistics import spread, widened
from harness.spec.errors import (
    AbsoluteGaussian,
    ErrorModel,
    RelativeBias,
    RelativeGaussian,
    SpreadBias,
    SystematicBias,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def perturb(model: ErrorModel, x: Tensor, key: DrawKey, level: Tensor | float | None = None) -> Tensor:
    """Return ``x`` with the errors of ``model``: a new tensor of the same shape and dtype; ``x`` is not modified.

    ``x`` has one of :data:`DTYPES` and at least one dimension, the last of which is the row of models with a row
    statistic. The halves of ``key`` broadcast against it; models without draws do not read them. ``level`` replaces
    the strength of the model (in the same unit; a model without a strength field is on above 0); a tensor broadcasts
    against ``x``, is used in the precision of the computation and is not checked for its range.

    NaN and infinity keep their bits, and so does everything where the strength is 0. Float64 computes in float64,
    all else in float32 and rounds once; what is then beyond the dtype becomes infinite. Memory is a few times that of
    ``x`` in float32: for large tensors, call it in chunks of rows, which changes no bit of the result.

    Raises TypeError for another dtype or model, ValueError for a tensor without dimensions, a missing strength, keys
    or a level that do not fit, a bit that the dtype does not have or a rounding that is not supported, and
    :class:`~harness.exceptions.NoiseSpecError` for a number as level that the model refuses.
    """
    if not model.computed_by:
        raise TypeError(f"error model {type(model).__name__}; its class names no formula (computed_by)")
    formula = extensions.resolve(model.computed_by)
    if x.dtype not in DTYPES:
        raise TypeError(f"dtype {x.dtype}; error models take {', '.join(str(dtype) for dtype in DTYPES)}")
    if x.ndim == 0:
        raise ValueError("a tensor without dimensions; error models need rows")
    strength = _strength(model, x, level)
    if x.numel() == 0:
        return x.clone()
    touched = torch.isfinite(x) & (strength != 0)
    after = torch.where(touched, formula(model, x, key, strength).to(x.dtype), x)
    if after.shape != x.shape:
        raise ValueError(f"keys or level of shape {tuple(after.shape)}; x has only {tuple(x.shape)}")
    return after


def relative_gaussian(y: Tensor, scaled_draws: Tensor) -> Tensor:
    """Return ``y + y * (scale * z)``, elementwise, in the dtype of ``y``; ``y`` is not modified.

    ``scaled_draws`` is ``scale * z`` in float32, broadcastable to ``y``. Lower precisions compute in float32 and
    round once, because a draw rounded to bfloat16 first would bias the error. The product and the sum are
    rounded one after the other, so that a compiler gives the same bits. The bits are kept where the draw is 0, and
    those of -0.0, NaN and infinity everywhere. Expected relative error (RMS of (y'-y)/y) is ``scale``.
    """
    wide = y.float()
    error = wide * scaled_draws
    touched = (error != 0) & torch.isfinite(wide)
    return torch.where(touched, wide + error, wide).to(y.dtype)


def _strength(model: ErrorModel, x: Tensor, level: Tensor | float | None) -> Tensor:
    """The strength in the dtype to compute in, from the level or else the model itself."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if isinstance(level, Tensor):
        return level.to(x.device, dtype)
    if level is not None:
        model.at(level)  # refuses what is out of range
    value = model.level if level is None else level
    if value is None:
        raise ValueError(f"no {model.strength} for {model.name}; name it in the model or give a level")
    return torch.full((), value, dtype=dtype, device=x.device)


def _relative(x: Tensor, fraction: Tensor) -> Tensor:
    y = widened(x)
    if y.dtype == torch.float64:  # relative_gaussian is of float32, and the compiled kernel depends on its bits
        return torch.where(y == 0, y, y + y * fraction)
    return relative_gaussian(y, fraction)


def _relative_gaussian(model: RelativeGaussian, x: Tensor, key: DrawKey, scale: Tensor) -> Tensor:
    return _relative(x, scale * normals(*key).to(scale.dtype))


def _absolute_gaussian(model: AbsoluteGaussian, x: Tensor, key: DrawKey, scale: Tensor) -> Tensor:
    return widened(x) + scale * normals(*key).to(scale.dtype)


def _relative_bias(model: RelativeBias, x: Tensor, key: DrawKey, scale: Tensor) -> Tensor:
    return _relative(x, scale)


def _systematic_bias(model: SystematicBias, x: Tensor, key: DrawKey, scale: Tensor) -> Tensor:
    y = widened(x)
    return torch.where(y == 0, y, y + torch.sign(y) * scale)  # the sum would lose the sign of -0.0


def _spread_bias(model: SpreadBias, x: Tensor, key: DrawKey, scale: Tensor) -> Tensor:
    y = widened(x)
    return y + scale * spread(y)
