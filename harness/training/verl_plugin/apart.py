"""How far two sides of a run are apart on the same answers: the figures of the on-policy proof."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Apart:
    """Over ``tokens`` answer tokens: the sum of the k3 estimates, and the largest abs(dlogp)."""

    tokens: int = 0
    k3_sum: float = 0.0
    largest: float = 0.0

    def plus(self, other: Apart) -> Apart:
        """Return both together."""
        return Apart(self.tokens + other.tokens, self.k3_sum + other.k3_sum, max(self.largest, other.largest))

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return ``PREFIXk3_kl`` and ``PREFIXdlogp_max``; nothing where there were no tokens."""
        if not self.tokens:
            return {}
        return {f"{prefix}k3_kl": self.k3_sum / self.tokens, f"{prefix}dlogp_max": self.largest}


def apart(rollout: Tensor, actor: Tensor, mask: Tensor) -> Apart:
    """Return how far log-probabilities of ``rollout`` and ``actor``, (answers, tokens), are apart where ``mask`` is on.

    k3 is ``exp(d) - 1 - d`` with d = actor - rollout, as verl's ``rollout_corr/k3_kl`` has it, but in float64: in
    float32 the rounding of the exponential alone is 1e-9 in the mean.
    """
    chosen = mask.bool()
    difference = (actor.double() - rollout.double())[chosen]
    if not difference.numel():
        return Apart()
    k3 = torch.expm1(difference) - difference
    return Apart(difference.numel(), float(k3.sum()), float(difference.abs().max()))
