"""A run written without a model is one that everything accepts, and what is changed in it is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import GatePolicy, accept_baseline, gate, load_run
from harness.record import CERTIFIED
from harness.testing import RunMaker, make_result, write_run

pytestmark = pytest.mark.unit
ROWS = {0.0: [[1]] * 40 + [[0]] * 20, 0.05: [[1, 0]] * 60}


def test_it_is_certified_and_holds_the_outcomes(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", ROWS))
    assert run.arm.certificate.status == CERTIFIED
    assert len(run.results) == 60 + 120
    assert sum(cell.score for row in run.arm.outcomes[0.0].values() for cell in row.values()) == 40


def test_it_can_be_a_baseline_and_be_gated(tmp_path: Path) -> None:
    run = write_run(str(tmp_path / "run"), ROWS)
    accept_baseline(run, tmp_path / "baselines", "mine", "for a test", False)
    assert gate(run, "mine", GatePolicy(margin=0.2), baselines_dir=tmp_path / "baselines").verdict == "PASS"


def test_what_does_not_follow_is_no_evidence(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", ROWS, changed=0))
    assert run.arm.certificate.status != CERTIFIED or run.arm.certificate.problems_at(0.05)


def test_a_record_says_why_it_has_no_score() -> None:
    cut = make_result("i3", 0.05, 1, "truncated")
    assert (cut.score, cut.reason, cut.truncated, cut.answer) == (None, "truncated", True, None)
    assert make_result(score=0).text == "#### 6"
    assert RunMaker().manifest(["i0"], [0.0], 1, weights="w2").identity.weights == "w2"
