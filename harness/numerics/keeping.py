"""What is kept of next-token distributions: from log-probabilities of a whole vocabulary to the few that are stored."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.distributions import Distribution, Keep


def distribution_of(logprobs: Tensor, keep: Keep) -> Distribution:
    """Return what is kept of ``logprobs`` float32 (tokens, vocabulary)."""
    logprobs = logprobs[list(keep.places)]
    if keep.ids is None:
        ids = logprobs.topk(min(keep.count, logprobs.shape[-1]), -1).indices
    else:
        ids = torch.from_numpy(keep.ids.astype(np.int64)).to(logprobs.device)
    rest = logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return Distribution(
        np.array(keep.places, dtype=np.int32),
        ids.cpu().numpy().astype(np.int32),
        logprobs.gather(-1, ids).cpu().numpy(),
        rest.cpu().numpy(),
        logprobs.amin(-1).cpu().numpy(),
        logprobs.argmax(-1).cpu().numpy().astype(np.int32),
    )
