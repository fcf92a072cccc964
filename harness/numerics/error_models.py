"""The one home of the error formulas."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_gaussian(y: Tensor, scaled_draws: Tensor) -> Tensor:
    """``y + y * (scale * z)``, elementwise, in the dtype of ``y``; ``y`` is not modified.

    ``scaled_draws`` is ``scale * z`` in float32, broadcastable to ``y``. Lower precisions compute in float32 and
    round once, because a draw rounded to bfloat16 first would bias the error. The product and the sum are
    rounded one after the other, so that a compiler gives the same bits. Where the draw is 0 the bits are kept (also
    of -0.0), and so are NaN and infinity. Expected relative error (RMS of (y'-y)/y) is ``scale``.
    """
    wide = y.float()
    touched = (scaled_draws != 0) & torch.isfinite(wide)
    return torch.where(touched, wide + wide * scaled_draws, wide).to(y.dtype)
