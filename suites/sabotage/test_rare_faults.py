"""Faults so rare that most forwards have none: they are certified where they were, and INVALID where they were not."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from harness.noise import kernel
from harness.record import CERTIFIED, INVALID_EVIDENCE

pytestmark = pytest.mark.contract
MIX, LEVEL = "fault_mix(special=0.3) @ op:linear", 1e-4
"""About 100 events, a third of them NaN or infinity, in about a million elements."""


def problems(run):
    certificate = run.arm.certificate
    return [*certificate.problems, *(words for level in certificate.levels for words in level.problems)]


def test_honest_faults_are_certified(evaluated_as):
    run = evaluated_as("fault_mix @ op:linear", 1e-5)
    assert problems(run) == []
    assert run.arm.certificate.status == CERTIFIED


def watched():
    """Whether an auditor looks on."""
    return _get_current_dispatch_mode() is not None


def patched(monkeypatch, change):
    """``change(y, after, sums, measured)`` is what becomes of a perturbed tensor and its measures; ``measured`` gives
    another result with measures that fit."""
    honest = kernel.Kernel.perturb

    def perturb(self, error, y, key, level, real, *rest):
        after, sums = honest(self, error, y, key, level, real, *rest)
        if not level or level == 1.0:
            return after, sums
        return change(y, after, sums, lambda made: (made, kernel._measure_parts(y, made, real)))

    monkeypatch.setattr(kernel.Kernel, "perturb", perturb)


SABOTAGE = {
    "dropped where nobody looks": (
        lambda y, after, sums, measured: (after, sums) if watched() else measured(y),
        "elements changed, a share of 0.0001 was asked for",
    ),
    "dropped and booked where nobody looks": (
        lambda y, after, sums, measured: (after, sums) if watched() else (y, sums),
        "in the replay",
    ),
    "booked and not applied": (
        lambda y, after, sums, measured: (y, sums),
        "changed elements, 0 came out changed",
    ),
    "NaN becomes 0": (
        lambda y, after, sums, measured: measured(torch.where(after.isnan(), 0.0, after)),
        "elements that the draws of their keys do not give",
    ),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotaged_faults_are_invalid_and_named(evaluated_as, monkeypatch, name):
    change, words = SABOTAGE[name]
    patched(monkeypatch, change)
    run = evaluated_as(MIX, LEVEL, batch=2 if name.endswith("looks") else 8)  # of few batches all are audited
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any(words in problem for problem in problems(run)), problems(run)
