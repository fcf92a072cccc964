"""A training run from its check to its verdict, with verl's part played by a script: records, resuming, INVALID."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.library import training
from harness.progress import Silent
from harness.training import check
from harness.training.book import load_recipe
from harness.training.launch import DATA, Launched, Listening, metrics_file
from harness.training.machine import MachineState
from harness.training.recipe import Recipe, write_recipe
from harness.training_record import load_training_record

pytest.importorskip("torchdata", reason="verl is not installed: make setup-full")
pytestmark = pytest.mark.unit
FREE = MachineState(memory=64, shared=8, ports=True, rays=(), accelerators=0, cores=2)


class Verl:
    """Plays a launch: leaves the recipe, metrics of ``steps`` steps, and a checkpoint of the last."""

    def __init__(self, steps: int, status: int = 0) -> None:
        self.steps, self.status, self.calls = steps, status, 0

    def __call__(self, recipe: Recipe, folder: Path, listening: Listening) -> Launched:
        self.calls += 1
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, folder / "recipe.json")
        (folder / DATA).write_text(json.dumps({"train": "a" * 16, "validation": "b" * 16}))
        rows = [
            {"step": n, "data": {training.LOSS: 0.1 * n, training.REWARD: 0.2, "val-core/arith/acc": 0.5}}
            for n in range(1, self.steps + 1)
        ]
        metrics_file(folder, self.calls).write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "checkpoints" / f"global_step_{self.steps}" / "actor").mkdir(parents=True)
        listening.said(self.steps, {})
        return Launched(folder, self.status, self.calls)


@pytest.fixture
def verl(monkeypatch: pytest.MonkeyPatch) -> Any:
    def play(steps: int, status: int = 0) -> Verl:
        played = Verl(steps, status)
        monkeypatch.setattr(check, "look_around", lambda: FREE)
        monkeypatch.setattr(training, "launch", played)
        return played

    return play


def test_a_run_leaves_the_record_that_comparisons_read(verl: Any, tmp_path: Path) -> None:
    verl(20)
    recipe = load_recipe("E5b").with_seed(3)
    trained = training.start_training(recipe, tmp_path / "run", Silent(), training.Watching(60))
    record = load_training_record(tmp_path / "run" / "checkpoints" / "global_step_20" / "actor")
    assert record is not None
    assert (record.seed, record.step, record.updates, record.epochs) == (3, 20, 40, 2.0)
    assert record.initial_losses == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert record.config["aqn"] == recipe.effective(4)["aqn"] and record.dataset == "a" * 16
    found = trained.to_json()
    assert found["steps"] == found["planned"] == 20 and found["ended"]
    json.dumps(found, allow_nan=False)


def test_a_run_without_a_ledger_is_invalid(verl: Any, tmp_path: Path) -> None:
    verl(20)
    trained = training.start_training(load_recipe("E5b"), tmp_path / "run", Silent(), training.Watching(60))
    assert trained.failed


def test_a_run_that_stopped_early_is_resumed_and_one_that_ended_is_not(verl: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = verl(10, status=1)
    training.start_training(load_recipe("E5b"), folder, Silent(), training.Watching(60))
    second = verl(20)
    second.calls = first.calls
    assert len(training.resume_training(folder, Silent(), training.Watching(60)).evidence.steps) == 20
    assert second.calls == 2
    training.resume_training(folder, Silent(), training.Watching(60))
    assert second.calls == 2, "a run that ended is judged, not run again"


def test_a_used_folder_and_an_empty_one_are_refused(verl: Any, tmp_path: Path) -> None:
    verl(20)
    training.start_training(load_recipe("E5b"), tmp_path / "run", Silent(), training.Watching(60))
    with pytest.raises(HarnessError, match="results_overwritten"):
        training.start_training(load_recipe("E5b"), tmp_path / "run", Silent(), training.Watching(60))
    with pytest.raises(HarnessError, match="it holds no recipe"):
        training.read_training(tmp_path)
    with pytest.raises(HarnessError, match="it holds no recipe"):
        training.resume_training(tmp_path / "absent", Silent(), training.Watching(60))
