"""Sabotage of a running evaluation: whatever a bad change does to noise, draws or answers is INVALID, and named."""

from __future__ import annotations

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.gates import INVALID, GatePolicy, gate
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.runs.loaded import load_run
from harness.spec import EvalSpec
from suites.sabotage.answering import ANSWERS
from suites.sabotage.drawing import DRAWS
from suites.sabotage.losses import LOSSES

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=5, levels=(0.0, 0.1), noise_seeds=2, max_new_tokens=6)
BATCH = 3
"""Two batches of clean records, four of noise: a beginning, a middle and an end."""


@pytest.fixture(scope="module")
def prepared(two_layers):
    """Two layers, loaded once: sabotage is undone before the next."""
    return prepare(two_layers, SPEC, "cpu")


@pytest.fixture
def evaluated(prepared, tmp_path):
    """Evaluates, and returns the stored run."""

    def run():
        evaluate(prepared, tmp_path / "run", BATCH)
        return load_run(tmp_path / "run")

    return run


def said(run):
    """Everything that speaks against ``run``."""
    certificate = run.arm.certificate
    return [*certificate.problems, *(words for level in certificate.levels for words in level.problems)]


def test_what_every_sabotage_starts_from_is_certified(evaluated):
    run = evaluated()
    assert said(run) == []
    assert run.arm.certificate.status == CERTIFIED


SABOTAGE = {**LOSSES, **DRAWS, **ANSWERS}


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda sabotage: sabotage.__name__)
def test_sabotage_is_invalid_and_named(evaluated, monkeypatch, sabotage):
    sabotage(monkeypatch)
    run = evaluated()
    monkeypatch.undo()
    found = said(run)
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any(SABOTAGE[sabotage] in words for words in found), found
    judged = gate(run.arm, run.arm, GatePolicy(margin=0.2))
    assert (judged.verdict, judged.exit_code) == (INVALID, 4)
