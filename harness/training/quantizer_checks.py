"""Checks that fake quantization acted in every pass and process that it was asked for, at the same modules, and nowhere
else.

As in :mod:`harness.training.integrity` each returns an empty text, or one sentence with the step and what was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.training.evidence import STEP, VALIDATED, Evidence, counted
from harness.training.injection import ACTOR, OLD_LOG_PROB, REFERENCE, ROLLOUT, TRAINING_FORWARD

WEIGHT = "weight"


def quantizer_missing(evidence: Evidence) -> str:
    """Find a pass of a process in which a quantizer that was asked for quantized nothing, or is not reported."""
    points = _points(evidence)
    for line in evidence.lines(STEP) if points else ():
        seen = set()
        for process, name, counts in counted(line):
            if name not in _passes(evidence):
                continue
            seen.add(name)
            for point in points:
                found = _of(counts, point)
                if not sum(count["changed"] for count in found):
                    return f"step {line['step']}: no {point} was quantized in {name} of {process}"
        for name in _passes(evidence):
            if name not in seen:
                return f"step {line['step']}: no process reports what was quantized in {name}"
    return ""


def quantized_sites_differ(evidence: Evidence) -> str:
    """Find two passes or processes that quantized different numbers of modules: an exclude that only one side reads."""
    for line in evidence.lines(STEP) if evidence.recipe.quantization is not None else ():
        for point in _points(evidence):
            first: tuple[str, int] | None = None
            for process, name, counts in counted(line):
                sites = sum(count["sites"] for count in _of(counts, point))
                if name not in _passes(evidence):
                    continue
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
                _, colon, point = count["op"].partition(":")
                if colon and point not in allowed:
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
    return [each for each in counts if each["op"].partition(":")[2] == point and each["direction"] == "forward"]
