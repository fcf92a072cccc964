"""Arms of an experiment: sets of runs that differ in their training seed and nothing else, proven, not believed.

Two arms may differ in one declared factor of their effective configuration. What stands against that is a sentence
that names it; an arm with one is no evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.gates.evidence import certificate_problems
from harness.gates.keys import key_differences
from harness.record import Arm
from harness.training_record import DATA, PROGRESS, TrainingRecord


@dataclass(frozen=True)
class Replicate:
    """One run of an arm: its outcomes, the SHA-256 of its weights, and what its checkpoint says of the training."""

    run: Arm
    weights: str
    training: TrainingRecord | None


@dataclass(frozen=True)
class ReplicatedArm:
    """``label`` and its runs, at least one."""

    label: str
    replicates: tuple[Replicate, ...]

    @property
    def training(self) -> tuple[TrainingRecord, ...]:
        """The training records of the runs that have one."""
        return tuple(each.training for each in self.replicates if each.training is not None)


_Property = tuple[str, Callable[[str, TrainingRecord], Any]]
_DISTINCT: tuple[_Property, ...] = (
    ("weights", lambda weights, training: weights),
    ("training seed", lambda weights, training: training.seed),
    ("data order", lambda weights, training: training.data_order),
    ("initial losses", lambda weights, training: training.initial_losses),
)
"""What independent training runs cannot share."""


def arm_problems(arm: ReplicatedArm, level: float) -> tuple[str, ...]:
    """Return what speaks against the runs of ``arm`` as replicates at ``level``; empty where they are."""
    found = [
        f"{arm.label}: {words}"
        for each in arm.replicates
        for words in certificate_problems(each.run.label, each.run, level)
    ]
    bare = [each.run.label for each in arm.replicates if each.training is None]
    if bare:
        return (*found, f"{arm.label}: {bare[0]} has no training.json, so nothing says what it was trained with")
    for name, value in _DISTINCT:
        known = zip(arm.replicates, arm.training, strict=True)
        shared = _shared([(each.run.label, value(each.weights, training)) for each, training in known])
        if shared:
            found.append(f"{arm.label}: {shared[0]} and {shared[1]} have the same {name}, so they are one training run")
    first, *others = arm.training
    for other in others:
        found += [f"{arm.label}: its runs differ in {name}" for name in _settings(first, other)]
        found += [f"{arm.label}: its runs differ in {name}" for name in _fixed(first, other)]
    return tuple(dict.fromkeys(found))


def pair_problems(arms: Sequence[ReplicatedArm], factor: str | None) -> tuple[str, ...]:
    """Return what speaks against comparing two arms along ``factor``, the name of a setting; None: the one that
    differs."""
    first, second = arms
    runs = [each.run for arm in arms for each in arm.replicates]
    found = [
        f"{run.label} against {runs[0].label}: {words}"
        for run in runs[1:]
        for words in key_differences(run.key, runs[0].key)
    ]
    shared = {each.weights for each in first.replicates} & {each.weights for each in second.replicates}
    if shared:
        found.append(f"{first.label} and {second.label} hold the same weights ({min(shared)[:16]}...)")
    if not first.training or not second.training:
        return tuple(dict.fromkeys(found))
    ours, theirs = first.training[0], second.training[0]
    if ours.configuration == theirs.configuration:
        found.append(
            f"{first.label} and {second.label} have the same effective configuration ({ours.configuration}): they are"
            " replicates of one arm, whatever they were meant to be"
        )
    differing = _settings(ours, theirs)
    extra = [name for name in differing if name != factor] if factor is not None else differing[1:]
    if extra:
        declared = factor if factor is not None else differing[0]
        found.append(f"the arms differ in more than {declared}: {', '.join(extra)}")
    if factor is not None and factor not in differing:
        found.append(f"the arms do not differ in the declared factor {factor}")
    found += [f"the arms differ in {name}" for name in _fixed(ours, theirs)]
    return tuple(dict.fromkeys(found))


def _shared(values: Sequence[tuple[str, Any]]) -> tuple[str, str] | None:
    """The labels of the first two with equal values."""
    seen: dict[Any, str] = {}
    for label, value in values:
        if value in seen:
            return seen[value], label
        seen[value] = label
    return None


def _settings(first: TrainingRecord, second: TrainingRecord) -> list[str]:
    return _differing(first.config, second.config)


def _fixed(first: TrainingRecord, second: TrainingRecord) -> list[str]:
    """How far the training went and on what, where that differs, with both values."""
    return [
        f"{name} ({getattr(first, name)} and {getattr(second, name)})"
        for name in (*PROGRESS, *DATA)
        if getattr(first, name) != getattr(second, name)
    ]


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    missing = object()
    return [name for name in sorted({*first, *second}) if first.get(name, missing) != second.get(name, missing)]
