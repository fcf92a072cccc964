"""Which attention implementation to load for a noise (no torch)."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from harness.spec import NoiseSpec

log = logging.getLogger(__name__)

AUTO, EAGER, FUSED = "auto", "eager", "sdpa"
_INSIDE = frozenset({"qk", "pv", "softmax"})


def choose_attention(asked: str, noises: Iterable[NoiseSpec], sdpa: bool = True) -> str:
    """Return ``asked``, where ``auto`` is eager if one of ``noises`` asks for QK, PV or softmax, else SDPA.

    Where the model has no ``sdpa``, ``auto`` is eager as well, which is logged.
    """
    if asked != AUTO:
        return asked
    if any(_INSIDE & noise.operators for noise in noises):
        return EAGER
    if not sdpa:
        log.warning("the model has no SDPA attention: --attention auto loads it with eager attention")
        return EAGER
    return FUSED
