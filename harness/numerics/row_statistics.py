"""What some error models ask of a token's row, the last dimension: elements that are NaN or infinite do not count."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """Return ``x`` in the precision to compute in: float64 where it is that, else float32. The values are the same."""
    return x if x.dtype == torch.float64 else x.float()


def largest_magnitude(y: Tensor) -> Tensor:
    """Return max |row| in the dtype of ``y``, shape (..., 1); 0 for a row without a finite element."""
    return torch.where(torch.isfinite(y), y.abs(), 0.0).amax(-1, keepdim=True)


def spread(y: Tensor) -> Tensor:
    """Return the population standard deviation in the unit and dtype of ``y``, shape (..., 1); NaN without a finite
    element.

    Summed in float64 over contiguous rows, then rounded to float32 if that is what ``y`` is, so that the order of
    summation (which depends on batch, strides and device) does not show. Float64 rows beyond 1e154 give infinity.
    """
    y = y.contiguous()
    finite = torch.isfinite(y)
    count = finite.sum(-1, keepdim=True)
    values = torch.where(finite, y.double(), 0.0)
    mean = values.sum(-1, keepdim=True) / count
    deviations = torch.where(finite, values - mean, 0.0)
    return (deviations.square().sum(-1, keepdim=True) / count).sqrt().to(y.dtype)
