"""The selectors of a noise specification, and how its values are printed (below the specification itself)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SELECTORS: Mapping[str, str] = MappingProxyType(
    {
        "op": "ops",
        "profile": "profile",
        "scope": "scope",
        "module": "modules",
        "class": "classes",
        "at": "at",
        "layers": "layers",
        "tokens": "tokens",
        "include": "include",
        "exclude": "exclude",
        "when": "when",
        "phase": "phases",
        "softmax": "softmax",
        "key": "key",
        "seed": "seed",
    }
)
"""Name in the one-line and the TOML form -> field of :class:`NoiseSpec`, in the order in which they are printed."""

PLACES = ("op", "profile", "scope", "module", "class")
LISTS = ("op", "module", "class", "layers", "tokens", "include", "exclude", "phase")
"""Selectors that take several values; the others take one."""


def print_noise(spec: Any) -> str:
    """Return the one line of a :class:`~harness.spec.noise.NoiseSpec`: the place, and what differs from the default.

    ``harness.spec.oneline.parse_noise`` reads it back.
    """
    words = (
        f"{selector}:{','.join(value) if isinstance(value, tuple) else value}"
        for selector, value in selector_values(spec).items()
    )
    return f"{spec.error} @ {' '.join(words)}"


def selector_values(spec: Any) -> dict[str, str | int | tuple[str, ...]]:
    """Return selector -> value of what differs from the default, the place always; layers as ``("0", "14-17")``."""
    found = {}
    for selector, name in SELECTORS.items():
        value = getattr(spec, name)
        if value != getattr(type(spec), name):
            found[selector] = tuple(map(_layers_text, value)) if selector == "layers" else value
    return found


def _layers_text(layers: tuple[int, int]) -> str:
    first, last = layers
    return str(first) if first == last else f"{first}-{last}"
