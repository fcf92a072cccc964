"""Which attention implementation to load for a noise (no torch)."""

from __future__ import annotations

from collections.abc import Iterable

from harness.spec import NoiseSpec

AUTO, EAGER, FUSED = "auto", "eager", "sdpa"
_INSIDE = frozenset({"qk", "pv", "softmax"})


def choose_attention(asked: str, noises: Iterable[NoiseSpec]) -> str:
    """Return ``asked``, where ``auto`` is eager if one of ``noises`` asks for QK, PV or softmax, else SDPA."""
    if asked != AUTO:
        return asked
    return EAGER if any(_INSIDE & noise.operators for noise in noises) else FUSED
