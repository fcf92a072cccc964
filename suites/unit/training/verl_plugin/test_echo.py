"""What a process says of its settings, on tables of every kind that verl uses; without verl."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.training.book import load_recipe
from harness.training.recipe import VARIABLE, write_recipe
from harness.training.verl_plugin import LEDGER_VARIABLE, SETTINGS_FILE
from harness.training.verl_plugin.echo import ROLLOUT, WORKER, echo, engine_echo

pytestmark = pytest.mark.unit
SETTINGS = {
    "actor_rollout_ref.actor.clip_ratio": 0.2,
    "actor_rollout_ref.actor.optim.lr": 1e-5,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0,
    "actor_rollout_ref.model.target_modules": ["q_proj", "v_proj"],
    "trainer.v1.trainer_mode": "robustness_sync",
    "trainer.test_freq": 5,
}


@dataclass
class Validation:
    temperature: float = 0


@dataclass
class Rollout:
    n: int = 8
    val_kwargs: Validation = field(default_factory=Validation)


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    recipe = load_recipe("E5", "tiny")
    write_recipe(recipe, tmp_path / "recipe.json")
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(SETTINGS))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "recipe.json"))
    monkeypatch.setenv(LEDGER_VARIABLE, str(tmp_path / "ledger.jsonl"))
    return recipe


def table(**changes: Any) -> dict[str, Any]:
    actor = {"clip_ratio": 0.2, "optim": {"lr": 1e-5}} | changes
    return {"actor": actor, "model": {"target_modules": ["q_proj", "v_proj"]}, "rollout": Rollout()}


def test_a_process_that_holds_everything_differs_in_nothing(run):
    told = echo(table(), WORKER, engines=[])
    assert (told["recipe"], told["held"], told["differs"]) == (run.recipe_hash, 5, [])


def test_the_whole_configuration_but_for_what_verl_compares_by_name():
    whole = {"actor_rollout_ref": table(), "trainer": {"test_freq": 5, "v1": {"trainer_mode": "sync"}}}
    assert (echo(whole)["held"], echo(whole)["differs"]) == (6, [])


def test_what_differs_is_told_with_both_values():
    assert echo(table(clip_ratio=0.3), WORKER)["differs"] == [["actor_rollout_ref.actor.clip_ratio", 0.3, 0.2]]


def test_what_verl_has_dropped_is_not_held():
    assert echo({"actor": {"optim": {}}}, WORKER)["held"] == 0


def test_a_dataclass_below_its_own_prefix():
    assert echo(Rollout(), ROLLOUT)["held"] == 2
    assert echo(Rollout(n=4), ROLLOUT)["differs"] == [["actor_rollout_ref.rollout.n", 4, 8]]


def test_an_engine_tells_the_first_rate_of_a_warmup_and_how_much_it_trains():
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2, bias=False))
    module[1].weight.requires_grad = False
    optimizer = torch.optim.AdamW(
        [each for each in module.parameters() if each.requires_grad], lr=1e-3, weight_decay=0.1
    )
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1)
    told = engine_echo(
        SimpleNamespace(module=module, optimizer=optimizer, engine_config=SimpleNamespace(forward_only=False))
    )
    assert told == {
        "dtype": ["float32"],
        "parameters": 21,
        "trained": 15,
        "forward_only": False,
        "learning_rate": [1e-3],
        "weight_decay": [0.1],
    }


def test_an_engine_that_only_runs_forward_has_no_optimizer():
    engine = SimpleNamespace(module=torch.nn.Linear(2, 2), engine_config=SimpleNamespace(forward_only=True))
    assert "learning_rate" not in engine_echo(engine)
