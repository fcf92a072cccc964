"""Checks that fake quantization acted in every pass and process that it was asked for, at the same modules, and nowhere
else.

As in :mod:`harness.training.integrity` each returns an empty text, or one sentence with the step and what was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.record import FORWARD
from harness.runs.quantized import WEIGHT
from harness.training.evidence import STEP, VALIDATED, Evidence, counted
from harness.training.injection import ACTOR, OLD_LOG_PROB, REFERENCE, ROLLOUT, TRAINING_FORWARD
from harness.training.verl_plugin.ledgers import changed, is_noise


def quantizer_missing(evidence: Evidence) -> str:
    """Find a pass of a process in which a quantizer that was asked for quantized nothing, or is not reported."""
    points, passes = _points(evidence), _passes(evidence)
    for line in evidence.lines(STEP) if points else ():
        seen = set()
        for process, name, counts in counted(line):
            if name not in passes:
                continue
            seen.add(name)
            for point in points:
                if not changed(_of(counts, point)):
                    return f"step {line['step']}: no {point} was quantized in {name} of {process}"
        for name in passes:
            if name not in seen:
                return f"step {line['step']}: no process reports what was quantized in {name}"
    return ""


def quantized_sites_differ(evidence: Evidence) -> str:
    """Find two passes or processes that quantized different numbers of modules: an exclude that only one side reads."""
    passes = _passes(evidence)
    for line in evidence.lines(STEP):
        for point in _points(evidence):
            first: tuple[str, int] | None = None
            for process, name, counts in counted(line):
                if name not in passes:
                    continue
                sites = sum(count["sites"] for count in _of(counts, point))
                if first is not None and sites != first[1]:
                    here = f"{sites} in {name} of {process}"
                    return f"step {line['step']}: {point} quantized at {here}, at {first[1]} in {first[0]}"
                first = first or (f"{name} of {process}", sites)
    return ""


def quantized_without_being_asked(evidence: Evidence) -> str:
    """Find a quantizer in a run, a side or an operand that should be in full precision."""
    part, points = evidence.recipe.quantization, _points(evidence)
    for line in (*evidence.lines(STEP), *evidence.lines(VALIDATED)):
        for process, name, counts in counted(line):
            side = ROLLOUT if name == ROLLOUT else ACTOR
            allowed = points if part is not None and side in part.sides else ()
            for count in counts:
                if not is_noise(count) and _point(count) not in allowed:
                    return f"step {line['step']}: {count['op']} was quantized in {name} of {process}"
    return ""


def _points(evidence: Evidence) -> tuple[str, ...]:
    """Where the recipe quantizes: the weight, and the activations at their point."""
    part = evidence.recipe.quantization
    if part is None:
        return ()
    return ((WEIGHT,) if part.weights else ()) + ((part.point,) if part.activations else ())


def _passes(evidence: Evidence) -> tuple[str, ...]:
    """The passes in which the recipe quantizes and that every step has."""
    part = evidence.recipe.quantization
    if part is None:
        return ()
    reference = (REFERENCE,) if evidence.recipe.algorithm.kl_loss else ()
    actor = (OLD_LOG_PROB, TRAINING_FORWARD, *reference) if ACTOR in part.sides else ()
    return ((ROLLOUT,) if ROLLOUT in part.sides else ()) + actor


def _of(counts: Iterable[Mapping[str, Any]], point: str) -> list[Mapping[str, Any]]:
    there = (each for each in counts if not is_noise(each) and each["direction"] == FORWARD)
    return [each for each in there if _point(each) == point]


def _point(count: Mapping[str, Any]) -> str:
    """What a quantizer's count was taken of: its operator is called ``linear:weight``."""
    return str(count["op"]).partition(":")[2]
