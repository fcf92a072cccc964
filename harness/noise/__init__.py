"""Puts numerical error into running models, counts it, and proves that it was there.

``noisy`` is the way in for scripts; :class:`NoiseSession` and :func:`build_plan` are what it is made of.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "InjectionPlan": "harness.noise.plan",
    "NoiseSession": "harness.noise.session",
    "build_plan": "harness.noise.planner",
    "noisy": "harness.noise.inject",
    "phase": "harness.noise.phases",
}
__all__ = ["InjectionPlan", "NoiseSession", "build_plan", "noisy", "phase"]


def __getattr__(name: str) -> Any:
    """Loads what is asked for: the package itself imports no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
