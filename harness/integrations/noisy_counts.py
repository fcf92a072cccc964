"""What :mod:`harness.integrations.noisy_ops` counts: injections by the ancestor's phases, and by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from harness.record import BACKWARD, FORWARD, SiteCount

UNKNOWN = "unknown"
PHASES: Mapping[str, str] = MappingProxyType(
    {"rollout": "rollout", "actor_forward": "training", "actor_backward": "training", UNKNOWN: ""}
)
"""The ancestor's phases -> the phase that the engine is told."""


class Counts:
    """Injections by phase and direction, and by layer and direction; elements seen and changed."""

    def __init__(self) -> None:
        self._phases: Counter[tuple[str, str]] = Counter()
        self._layers: dict[int | str, dict[str, int]] = {}
        self.elements = self.changed = 0

    def add(self, phase: str, counts: Iterable[SiteCount]) -> None:
        """Add what ledgers counted while ``phase`` was set; a recomputation is a forward."""
        for count in counts:
            direction = BACKWARD if count.direction == BACKWARD else FORWARD
            self._phases[phase, direction] += count.calls
            self.elements += count.elements
            self.changed += count.changed
            layer = UNKNOWN if count.layer is None else count.layer
            self._layers.setdefault(layer, {FORWARD: 0, BACKWARD: 0})[direction] += count.calls

    def by_phase(self) -> dict[str, int]:
        """Return ``PHASE_forward`` and ``PHASE_backward`` of every phase."""
        return {f"{phase}_{way}": self._phases[phase, way] for phase in PHASES for way in (FORWARD, BACKWARD)}

    def total(self, direction: str) -> int:
        """Return injections in ``direction``, in all phases."""
        return sum(self._phases[phase, direction] for phase in PHASES)

    def by_layer(self) -> dict[int | str, dict[str, int]]:
        """Return layer, or ``"unknown"`` outside of them -> ``forward`` and ``backward``."""
        return {layer: dict(found) for layer, found in self._layers.items()}

    def text(self, scale: float) -> str:
        """Return a few lines for people: the phases with injections, or that there were none."""
        lines = [f"noisy ops at {scale:g}: {self.changed} of {self.elements} elements changed"]
        for phase in PHASES:
            forward, backward = self._phases[phase, FORWARD], self._phases[phase, BACKWARD]
            if forward or backward:
                lines.append(f"  {phase}: forward {forward}, backward {backward}")
        return "\n".join(lines if len(lines) > 1 else [*lines, "  NOTHING was injected"])

    def clear_phases(self) -> None:
        """Have the counts by phase, and of elements, begin anew."""
        self._phases.clear()
        self.elements = self.changed = 0

    def clear_layers(self) -> None:
        """Have the counts by layer begin anew."""
        self._layers.clear()
