"""What the tests of the ancestor's interface ask of its state."""

import torch

IDS = torch.arange(12).view(2, 6)
PRODUCTS = 7 * 2 + 1
"""Linears of the toy model."""


def totals(state):
    stats = state.get_injection_stats()
    return stats["total_forward"], stats["total_backward"]


def differs(state, compute, **enabled):
    """True where ``compute`` gives other bits under noise; both are deterministic without."""
    clean = compute()
    with state.context(0.05, **enabled):
        noised = compute()
    return not torch.equal(clean, noised)
