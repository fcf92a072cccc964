"""What a run leaves beside verl's own files: record, curves, progress, loggers, import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.exceptions import HarnessError
from harness.library.training import import_training, telling
from harness.progress import Silent
from harness.reports.training_curves import curves, write_curves
from harness.runs.loaded import load_run
from harness.training import integrity
from harness.training.book import load_recipe
from harness.training.data import rows
from harness.training.evidence import read_evidence
from harness.training.integrity import Failed
from harness.training.launch import TENSORBOARD, loggers_here, plugin_settings
from harness.training.readback import Readback, write_readback
from harness.training.recipe import write_recipe
from harness.training.run_record import run_record, write_run_record

pytestmark = pytest.mark.unit
LAYERS, STEPS = 4, 2
TOLD = {"critic/score/mean": 0.5, "rollout_corr/k3_kl": -1e-9, "actor/grad_norm": 0.3, "actor/entropy": 0.2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run of two steps left."""
    changes = {"run": {"epochs": 1, "steps": STEPS}, "data": {"validation_items": 3}}
    write_recipe(load_recipe("E5", "tiny", changes), tmp_path / "recipe.json")
    lines = [{"step": step, "data": TOLD | {"training/global_step": step}} for step in range(1, STEPS + 1)]
    lines[-1]["data"] |= {"val-core/arith/acc/mean@1": 0.5}  # type: ignore[operator]
    (tmp_path / "metrics-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "ledger.jsonl").write_text('{"kind": "note", "step": 0}\n')
    (tmp_path / "data.json").write_text('{"train": "a", "validation": "b"}')
    actor = tmp_path / "checkpoints" / f"global_step_{STEPS}" / "actor"
    actor.mkdir(parents=True)
    (actor / "model_world_size_1_rank_0.pt").write_bytes(b"weights")
    (actor / "optim_world_size_1_rank_0.pt").write_bytes(b"moments")
    return tmp_path


def test_the_record_holds_hashes_metrics_and_what_failed(folder: Path) -> None:
    evidence = read_evidence(folder, LAYERS, 0)
    found = json.loads(write_run_record(folder, evidence, (Failed("steps_missing", "step 2"),)).read_text())
    recipe = evidence.recipe
    assert found["recipe_hash"] == recipe.recipe_hash and found["effective_hash"] == recipe.effective_hash(LAYERS)
    assert found["metrics"]["2"]["rollout_corr/k3_kl"] == -1e-9 and found["validations"] == [[2, 0.5]]
    assert not found["valid"] and found["failed"][0]["check"] == "steps_missing"
    assert found["ledger"]["lines"] == 1 and len(found["ledger"]["sha256"]) == 64
    assert found["data"] == {"train": "a", "validation": "b"} and found["environment"]["stack"].keys() >= {
        "verl",
        "vllm",
    }


def test_the_hash_of_a_checkpoint_is_that_of_its_weights(folder: Path) -> None:
    def hashed() -> str:
        return run_record(folder, read_evidence(folder, LAYERS, 0), ())["checkpoints"]["2"]

    before = hashed()
    actor = folder / "checkpoints" / "global_step_2" / "actor"
    (actor / "optim_world_size_1_rank_0.pt").write_bytes(b"other moments")
    assert hashed() == before
    (actor / "model_world_size_1_rank_0.pt").write_bytes(b"weightz")
    assert hashed() != before


def test_curves_are_drawn_of_what_was_measured_and_of_nothing_else(folder: Path, tmp_path: Path) -> None:
    evidence = read_evidence(folder, LAYERS, 0)
    drawn = curves(evidence.metrics, evidence.validations())
    assert set(drawn) == {"reward.svg", "apart.svg", "gradient.svg", "entropy.svg", "validation.svg"}
    assert "1e-09" in drawn["apart.svg"] or drawn["apart.svg"].count("<circle") == STEPS  # a magnitude on a log axis
    files = write_curves(tmp_path / "curves", evidence.metrics, evidence.validations())
    assert all(file.read_text().startswith("<svg") for file in files)


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done = 0

    def cost(self, line: str) -> None:
        self.lines.append(line)

    def advance(self, count: int) -> None:
        self.done += count


def test_progress_tells_step_reward_and_from_the_second_step_on_the_time_left() -> None:
    watcher = Lines()
    said = telling(watcher, 5)
    for step in (0, 1, 1, 3):
        said(step, {"critic/score/mean": 0.25 * step})
    assert watcher.done == 3 and len(watcher.lines) == 2
    assert watcher.lines[0] == "step 1 of 5: reward 0.250"
    assert watcher.lines[1].startswith("step 3 of 5: reward 0.750, ") and watcher.lines[1].endswith(" left")


def test_tensorboard_is_told_where_it_is_and_others_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {TENSORBOARD}
    monkeypatch.setattr("harness.training.launch.find_spec", lambda name: True if name in here else None)
    assert loggers_here() == loggers_here((TENSORBOARD,)) == (TENSORBOARD,)
    settings = plugin_settings(load_recipe("E5"), loggers_here())
    assert settings["trainer.logger"] == ["console", "file", TENSORBOARD]
    with pytest.raises(HarnessError, match="not installed here"):
        loggers_here(("wandb",))
    with pytest.raises(HarnessError, match="did you mean 'wandb'"):
        loggers_here(("wandbb",))
    here.clear()
    assert loggers_here() == ()


def test_the_answers_of_the_last_checkpoint_go_into_the_store(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "planned_order", lambda recipe: ())  # verl's sampler need not be installed
    with pytest.raises(HarnessError, match="was not read back"):
        import_training(folder, tmp_path / "run")
    asked = rows("test", 3)
    right = [f"#### {row['reward_model']['ground_truth']}" for row in asked]
    answers = tuple(
        {"question": row["prompt"][0]["content"], "completion": text, "truncated": False, "score": float(number < 2)}
        for number, (row, text) in enumerate(zip(asked, [*right[:2], "#### -1"], strict=True))
    )
    write_readback(Readback(STEPS, 2 / 3, 3, "", answers), folder)
    loaded = load_run(import_training(folder, tmp_path / "run"))
    assert len(loaded.results) == 3 and sum(each.score or 0 for each in loaded.results) == 2
