"""The one home of the error formulas."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_gaussian(y: Tensor, scaled_draws: Tensor, out: Tensor | None = None) -> Tensor:
    """``y + y * (scale * z)``, elementwise, in the dtype of ``y``; ``y`` is not modified.

    ``scaled_draws`` is ``scale * z`` in float32, broadcastable to ``y``. For float32 it is one fused
    operator; lower precisions compute in float32 and round once, because a draw rounded to bfloat16 first
    would bias the error. Expected relative error (RMS of (y'-y)/y) is ``scale``.
    """
    if y.dtype == torch.float32:
        return torch.addcmul(y, y, scaled_draws, out=out)
    wide = y.float()
    perturbed = torch.addcmul(wide, wide, scaled_draws).to(y.dtype)
    return perturbed if out is None else out.copy_(perturbed)
