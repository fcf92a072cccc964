"""What an AQN would do to a model: its targets, what each would get, and how large that is beside its weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from harness.aqn.config import RELATIVE, AqnConfig
from harness.aqn.dose import LARGEST_RATIO, check_relative, spread_of
from harness.aqn.holder import ModuleHolder, Piece, WeightHolder, settings_hash
from harness.aqn.targets import Targets
from harness.exceptions import HarnessError


@dataclass(frozen=True)
class Planned:
    """One target at the loudest step: ``asked`` sigma in units of its weights and ``relative`` to their ``spread``;
    ``deviation`` is std(w). None where there are no weights to look at."""

    name: str
    kind: str
    layer: int | None
    elements: int
    multiplier: float
    asked: float | None
    deviation: float | None
    spread: float | None
    relative: float | None


@dataclass(frozen=True)
class Plan:
    """The targets, the step at which sigma is largest, and the hash of what the settings come to."""

    config: AqnConfig
    step: int
    sigma: float
    effective: str
    targets: tuple[Planned, ...]

    @property
    def too_large(self) -> tuple[Planned, ...]:
        """The targets whose sigma is more than half of their spread."""
        return tuple(each for each in self.targets if each.relative is not None and each.relative > LARGEST_RATIO)

    def check(self) -> None:
        """Raise :class:`harness.exceptions.HarnessError` for the first of :attr:`too_large`, unless it is forced."""
        for each in self.too_large:
            assert each.relative is not None
            check_relative(each.name, each.relative, self.config.force)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "config": self.config.to_json(),
            "step": self.step,
            "sigma": self.sigma,
            "effective": self.effective,
            "matched": len(self.targets),
            "elements": sum(each.elements for each in self.targets),
            "targets": [asdict(each) for each in self.targets],
        }


def refuse_idle(outline: nn.Module, targets: Targets) -> None:
    """Raise :class:`HarnessError` for the first path to include or exclude that no layer of those kinds in ``outline``
    has: a slip of the pen would leave in what was to be left out."""
    holder = ModuleHolder(outline)
    for option in ("include", "exclude"):
        for pattern in getattr(targets, option):
            try:
                holder.pieces(replace(targets, include=(pattern,), exclude=()))
            except HarnessError as error:
                value, rule = f"--{option} {pattern}", f"no layer of {', '.join(targets.kinds)} has this path"
                raise HarnessError(value, rule, "leave it out, or write it as mlp.down_proj") from error


def plan_of(holder: WeightHolder, config: AqnConfig) -> Plan:
    """Return what ``config`` would do to ``holder``. Raises :class:`harness.exceptions.HarnessError` for no-ops."""
    pieces = holder.pieces(config.targets)
    effective = settings_hash(config, pieces)
    sigmas = config.schedule.values
    step = sigmas.index(max(sigmas))
    targets = tuple(_planned(piece, config, sigmas[step], step) for piece in pieces)
    return Plan(config, step, sigmas[step], effective, targets)


def _planned(piece: Piece, config: AqnConfig, sigma: float, step: int) -> Planned:
    factor = config.multiplier(piece.layer, step)
    elements = math.prod(piece.region.whole)
    weight = piece.gathered()
    if weight.is_meta:
        asked = None if config.mode == RELATIVE else sigma * factor
        return Planned(piece.name, piece.kind, piece.layer, elements, factor, asked, None, None, None)
    spread, deviation = spread_of(weight, piece.is_norm), spread_of(weight, kind_is_norm=False)
    asked = sigma * factor * (spread if config.mode == RELATIVE else 1.0)
    relative = asked / spread if spread else None
    return Planned(piece.name, piece.kind, piece.layer, elements, factor, asked, deviation, spread, relative)
