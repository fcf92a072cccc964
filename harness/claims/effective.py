"""What an experiment really did: its configuration with every integrity fact applied, and the runs that are replicates.

Two experiments with equal effective configurations are replicates of one arm, whatever their names say.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.claims.model import (
    ABSENT,
    ACCURACY,
    DUPLICATE,
    HEADS,
    IN_TRAINING,
    OFF,
    TRAINING,
    UNSTATED,
    Place,
    Registry,
    Step,
    Value,
)
from harness.stats.replicates import PooledSpread, pooled_sd

END, BEST = "end", "best"
_HEX = 12


def effective_config(registry: Registry, experiment: str) -> dict[str, str]:
    """Return factor -> value as it really was; factors that were off, and those that mean nothing then, are left
    out."""
    found = dict(registry.experiments[experiment].config)
    for fact in registry.facts_of(experiment, ABSENT):
        if not fact.engine:
            found[fact.factor] = fact.effective
    for head, dependents in HEADS.items():
        if found.get(head, OFF) == OFF:
            for name in dependents:
                found.pop(name, None)
    return {name: value for name, value in found.items() if value != OFF}


def effective_hash(registry: Registry, experiment: str) -> str:
    """Return 12 hex digits of the effective configuration; one with an unstated factor equals no other.

    "unstated, WORDS" is a value that no source tells but that is one for all experiments with these words.
    """
    config = effective_config(registry, experiment)
    if UNSTATED in config.values():
        config["of"] = experiment
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:_HEX]


def effective_hashes(registry: Registry) -> dict[str, str]:
    """Return experiment -> :func:`effective_hash`, for all of them."""
    return {name: effective_hash(registry, name) for name in registry.experiments}


def differing_factors(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    """Return factors with different values; where one side is unstated nothing can be said."""
    pairs = {name: (ours.get(name, OFF), theirs.get(name, OFF)) for name in sorted({*ours, *theirs})}
    told = {name: pair for name, pair in pairs.items() if not any(value.startswith(UNSTATED) for value in pair)}
    return tuple(name for name, (one, other) in told.items() if one != other)


def extra_factors(registry: Registry, about: frozenset[str], arm: Place, reference: Place) -> tuple[str, ...]:
    """Return what differs between two arms besides the claimed factors, as ``name (one against the other)``.

    The step counts, unless claimed, and the inference noise; at step 0 on both sides no training has acted yet.
    """
    ours, theirs = effective_config(registry, arm.experiment), effective_config(registry, reference.experiment)
    untrained = arm.step == reference.step == 0
    found = [
        f"{name} ({ours.get(name, OFF)} against {theirs.get(name, OFF)})"
        for name in differing_factors(ours, theirs)
        if name not in about and not (untrained and name in TRAINING)
    ]
    if "step" not in about and (arm.step != reference.step or arm.step == UNSTATED):
        found.append(f"step ({arm.step} against {reference.step})")
    if "inference_noise" not in about and arm.level != reference.level:
        found.append(f"inference noise ({arm.level:g} against {reference.level:g})")
    return tuple(found)


def replicates_of(registry: Registry, hashes: Mapping[str, str], place: Place) -> dict[str, Value]:
    """Return other runs of the same effective configuration measured alike at the same place: experiment -> first
    value."""
    own = registry.values_at(place)
    if not own or place.step in (UNSTATED, BEST, 0) or registry.facts_of(place.experiment, DUPLICATE):
        return {}
    found = {}
    for name, effective in hashes.items():
        other_run = name != place.experiment and effective == hashes[place.experiment]
        if not other_run or registry.facts_of(name, DUPLICATE):
            continue
        other = Place(name, place.step, place.level, place.engine, place.metric, place.n)
        alike = [value for value in registry.values_at(other) if value.measured == own[0].measured]
        if alike:
            found[name] = alike[0]
    return found


@dataclass(frozen=True)
class ReplicateGroup:
    """Runs with one effective configuration: experiment -> contradictory values at ``step``, the first of them used."""

    effective: str
    step: Step
    values: Mapping[str, tuple[float, ...]]

    @property
    def first(self) -> list[float]:
        """The value of each run."""
        return [values[0] for values in self.values.values()]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON."""
        return {
            "effective_configuration": self.effective,
            "step": self.step,
            "values": {name: list(values) for name, values in self.values.items()},
            "sd": pooled_sd([self.first]).sd,
            "degrees_of_freedom": len(self.values) - 1,
        }


@dataclass(frozen=True)
class Spread:
    """The spread between accidental replicates (percentage points) and the groups it comes from."""

    pooled: PooledSpread
    groups: tuple[ReplicateGroup, ...]

    @property
    def sd(self) -> float:
        """The pooled standard deviation; NaN without replicates."""
        return self.pooled.sd

    @property
    def freedom(self) -> int:
        """Its degrees of freedom."""
        return self.pooled.freedom

    @property
    def sd_range(self) -> tuple[float, float]:
        """The least and the most that the choice among contradictory values can make of it."""
        squares = [
            [pooled_sd([chosen]).sd ** 2 * (len(chosen) - 1) for chosen in itertools.product(*group.values.values())]
            for group in self.groups
        ]
        if not squares:
            return math.nan, math.nan
        low, high = (math.sqrt(sum(map(pick, squares)) / self.freedom) for pick in (min, max))
        return low, high

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        known = self.freedom > 0
        return {
            "pooled_sd": self.sd if known else None,
            "degrees_of_freedom": self.freedom,
            "pooled_sd_range": list(self.sd_range) if known else None,
            "explains_between_single_runs": self.pooled.half_width(1, 1) if known else None,
            "groups": [group.to_json() for group in self.groups],
        }


def find_spread(registry: Registry, hashes: Mapping[str, str]) -> Spread:
    """Group experiments by effective configuration and pool their final accuracies, measured alike in training.

    Per group the step with most runs counts, the latest of equals; step 0, best-of-run values, unstated steps and
    duplicated records do not.
    """
    by_hash: dict[str, list[str]] = {}
    for name, effective in hashes.items():
        if not registry.facts_of(name, DUPLICATE):
            by_hash.setdefault(effective, []).append(name)
    groups = [
        group
        for effective, names in by_hash.items()
        if len(names) > 1 and (group := _group(registry, effective, names)) is not None
    ]
    return Spread(pooled_sd([group.first for group in groups]), tuple(groups))


def _group(registry: Registry, effective: str, names: list[str]) -> ReplicateGroup | None:
    found: dict[tuple[Step, tuple[tuple[str, str], ...]], dict[str, list[float]]] = {}
    for name in names:
        for value in registry.experiments[name].values:
            trained = value.step != 0 and (isinstance(value.step, int) or value.step == END)
            if value.metric == ACCURACY and value.engine == IN_TRAINING and trained:
                key = value.step, tuple(sorted(value.measured.items()))
                found.setdefault(key, {}).setdefault(name, []).append(value.value)
    several = {key: runs for key, runs in found.items() if len(runs) > 1}
    if not several:
        return None
    (step, _), runs = max(several.items(), key=lambda entry: (len(entry[1]), _late(entry[0][0])))
    return ReplicateGroup(effective, step, {name: tuple(values) for name, values in runs.items()})


def _late(step: Step) -> float:
    return float(step) if isinstance(step, int) else float("inf")
