"""Holds the stored positive control against the rule by which it is made, and says where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.record import INVALID_EVIDENCE, Certificate, ControlResult, ItemResult
from harness.thresholds import CONTROL_ITEMS, CONTROL_SCALE

NONE_RAN = "no positive control was asked for (--no-positive-control): nothing shows that lethal noise would have hurt"


def control_problems(control: ControlResult, items: Sequence[str], results: Sequence[ItemResult]) -> list[str]:
    """Return what in ``control`` is not what the rule makes of the run's ``items`` (in their order) and ``results``."""
    chosen = set(items[:CONTROL_ITEMS])
    clean = [result for result in results if (result.level, result.seed) == (0, 0) and result.item in chosen]
    right = sum(result.score == 1.0 for result in clean)
    return [
        f"positive control: {words} {found:g}, the rule gives {wanted:g}"
        for words, found, wanted in (
            ("its scale is", control.scale, CONTROL_SCALE),
            ("its items number", control.items, len(chosen)),
            ("its right clean answers number", control.clean_right, right),
        )
        if found != wanted
    ]


def with_control(certificate: Certificate, items: Sequence[str], results: Sequence[ItemResult]) -> Certificate:
    """Return ``certificate`` with what speaks against its positive control; where none was asked for, it says so."""
    if certificate.control is None:
        notes = () if certificate.problems else (NONE_RAN,)
        return replace(certificate, uncontrolled=True, notes=(*certificate.notes, *notes))
    problems = control_problems(certificate.control, items, results)
    if not problems:
        return certificate
    return replace(certificate, status=INVALID_EVIDENCE, problems=(*certificate.problems, *problems))
