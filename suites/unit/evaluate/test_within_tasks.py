"""Several tasks within one budget: planned together, stored before anything runs, resumed with those choices."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate import api, within
from harness.evaluate.within import Budget, assumed
from harness.evaluate.within_tasks import evaluate_tasks_within
from harness.exceptions import HarnessError, StoreError
from harness.gates.costs import Costs, Rate
from harness.gates.policy import GatePolicy
from harness.runs.folder import read_manifest
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit

COSTS = Costs(0.0, Rate(0.5, 0.1), Rate(0.5, 0.1), (0.0, 0.0), 1.0, 64)


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, EvalSpec]:
    rows = [{"Body": f"He has {n} pens.", "Question": "How many?", "Answer": n} for n in range(40)]
    (tmp_path / "svamp.json").write_text(json.dumps(rows))
    arith = EvalSpec("arith", items=40, levels=(0.0, 0.05), max_new_tokens=2)
    return {"arith": arith, "svamp": replace(arith, task="svamp", data=str(tmp_path / "svamp.json"))}


@pytest.fixture(autouse=True)
def _costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(within, "calibrate", lambda *_: COSTS)
    monkeypatch.setattr(within.Budget, "gone", lambda self: 0.0)


def run_within(tiny: Path, specs: dict[str, EvalSpec], out: Path, seconds: float = 40.0) -> dict[str, Any]:
    budget = Budget(seconds, assumed(GatePolicy(margin=0.3)))
    return evaluate_tasks_within(tiny, specs, out, dict.fromkeys(specs, budget))


def test_all_choices_stand_before_anything_runs_and_are_resumed(
    tiny: Path, specs: dict[str, EvalSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(api, "run_prepared", killed)
        with pytest.raises(KeyboardInterrupt):
            run_within(tiny, specs, tmp_path / "out")
    kept = {task: read_manifest(tmp_path / "out" / task) for task in specs}
    choices = {task: (len(m.identity.items), m.identity.noise_seeds) for task, m in kept.items()}
    assert not load_run(tmp_path / "out" / "arith").results
    monkeypatch.setattr(within, "calibrate", lambda *_: pytest.fail("it was planned anew"))
    runs = run_within(tiny, specs, tmp_path / "out")
    assert all(run.complete for run in runs.values())
    assert {task: (len(run.asked.items), run.asked.noise_seeds) for task, run in runs.items()} == choices
    assert {task: read_manifest(tmp_path / "out" / task).digest for task in specs} == {
        task: manifest.digest for task, manifest in kept.items()
    }


def test_plans_of_which_one_is_missing_are_not_made_up(tiny: Path, specs: dict[str, EvalSpec], tmp_path: Path) -> None:
    run_within(tiny, specs, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "svamp")
    with pytest.raises(StoreError, match="there is a plan of arith and none of svamp: they were planned apart"):
        run_within(tiny, specs, tmp_path / "out")


def test_engines_that_would_start_again_and_again_are_refused(
    tiny: Path, specs: dict[str, EvalSpec], tmp_path: Path
) -> None:
    other = {task: replace(spec, engine="vllm") for task, spec in specs.items()}
    with pytest.raises(HarnessError, match="--budget with several tasks and --engine vllm"):
        run_within(tiny, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_for_both_writes_nothing(tiny: Path, specs: dict[str, EvalSpec], tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="seconds are the least that would do"):
        run_within(tiny, specs, tmp_path / "out", 5.0)
    assert not (tmp_path / "out").exists()
