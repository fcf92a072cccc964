"""Experts of a mixture whose products no site reaches: told by the words of a stored plan (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping

from harness.spec.noise import NoiseSpec
from harness.spec.operators import SCOPES

FIELDS = ("gate_up_proj", "up_proj", "down_proj")
"""Names that the weights of stacked experts have; they stand behind the colon of a site's name."""

REASON = "experts that no site reaches"
"""Why a plan leaves products of stacked experts alone that its specification asks for."""

UNREACHED = "no site reaches this product"
"""Why a plan leaves any other product alone; of experts too, before plans told them from others."""


def asks_for_linears(spec: NoiseSpec) -> bool:
    """Return True where ``spec`` means every linear product, experts among them; one that names modules or classes, or
    other operators, claims nothing of experts."""
    return "linear" in spec.operators or "linear" in SCOPES.get(spec.scope or "", ())


def unreached(uncovered: Mapping[str, str], spec: NoiseSpec) -> tuple[str, ...]:
    """Return the names among the ``uncovered`` products of the plan of ``spec`` that are products of experts which it
    asks for."""
    if not asks_for_linears(spec):
        return ()
    return tuple(
        name
        for name, reason in uncovered.items()
        if reason == REASON or (reason == UNREACHED and "experts" in name.partition(":")[0].split("."))
    )


def pattern_for(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the shortest patterns for ``exclude:`` that leave out the products ``names``."""
    paths = [name.partition(":")[0].split(".") for name in names]
    return tuple(dict.fromkeys("experts" if "experts" in parts else parts[-1] for parts in paths))
