"""One call from a run to a verdict: kept beside the run, counted, and the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import GatePolicy, accept_baseline, gate
from harness.baselines.file import load
from harness.exceptions import HarnessError
from harness.library.for_gate import GateEvaluation
from harness.library.gate import attempt_of
from harness.runs.folder import read_manifest
from harness.thresholds import FLOOR

pytestmark = pytest.mark.unit


def test_a_verdict_is_kept_counted_and_repeated(tmp_path: Path, make_run: Any) -> None:
    run = make_run(tmp_path / "run", {0.0: [[1]] * 60, 0.05: [[1]] * 60})
    accept_baseline(run, tmp_path / "baselines", "mine", "for a test", False)
    first = gate(run, "mine", GatePolicy(margin=0.1), baselines_dir=tmp_path / "baselines")
    assert (first.verdict, first.exit_code, first.repeated) == ("PASS", 0, False)
    assert list((run / "verdicts").glob("*.json"))
    again = gate(run, "mine", GatePolicy(margin=0.1), baselines_dir=tmp_path / "baselines")
    assert again.repeated and again.to_json()["verdict"] == "PASS"
    narrow = gate(run, "mine", GatePolicy(margin=0.01), baselines_dir=tmp_path / "baselines")
    assert narrow.verdict == "INCONCLUSIVE"
    limits = [attempt_of(first.baseline, GatePolicy(margin=m), first.result) for m in (0.1, 0.01)]
    assert limits[0] != limits[1]


def test_a_floor_that_was_chosen_is_another_rule_than_the_usual_one(tmp_path: Path, make_run: Any) -> None:
    """On a task that raises it the two judge otherwise: neither may be taken for the other's stored verdict."""
    run = make_run(tmp_path / "run", {0.0: [[1]] * 40 + [[0]] * 40})
    held = load(accept_baseline(run, tmp_path / "baselines", "mine", "for a test", False))
    raised = replace(held, arm=replace(held.arm, floor=0.5))
    for floor, verdict in ((None, "INVALID"), (FLOOR, "PASS"), (None, "INVALID")):
        found = gate(run, raised, GatePolicy(margin=0.2, floor=floor))
        assert found.verdict == verdict, floor
    assert found.repeated and "lies below the 50 %" in gate(run, raised, GatePolicy(0.2, floor=FLOOR)).result.notes[0]


def test_a_finished_run_goes_to_no_other_folder(tmp_path: Path, make_run: Any) -> None:
    run = make_run(tmp_path / "run", {0.0: [[1]] * 60})
    accept_baseline(run, tmp_path / "baselines", "mine", "for a test", False)
    elsewhere = GateEvaluation(out=tmp_path / "other")
    with pytest.raises(HarnessError, match=r"--out .*other; .* is a run, made as it was made"):
        gate(run, "mine", GatePolicy(margin=0.1), elsewhere, baselines_dir=tmp_path / "baselines")
    assert not list(run.glob("verdicts/*")) and not (tmp_path / "other").exists()


def test_the_folder_that_runs_lie_in_is_told_before_any_verdict(make_run: Any, tmp_path: Path) -> None:
    shelf = tmp_path / "runs"
    run = make_run(shelf / "first", {0.0: [[1]] * 20})
    baseline = accept_baseline(run, tmp_path / "baselines", "mine", "for a test")
    with pytest.raises(HarnessError, match=r"it is no run but holds runs: first; give .*runs/first"):
        gate(shelf, baseline)
    with pytest.raises(HarnessError, match="holds runs: first"):
        read_manifest(shelf)
