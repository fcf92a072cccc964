"""The record beside a checkpoint: what it holds, what makes two configurations equal, what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import CheckpointError, HarnessError
from harness.training_record import ACTOR, FILE, TrainingRecord, load_training_record

pytestmark = pytest.mark.unit
RECORD: dict[str, Any] = {
    "config": {"lr": 1e-6, "trainer.epochs": 1, "aqn": False, "model": "m"},
    "seed": 3,
    "data_order": "abc",
    "initial_losses": [2.5, 2],
    "step": 29,
    "updates": 116,
    "epochs": 1,
    "dataset": "d",
    "template": "t",
}


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    record = TrainingRecord.from_json(RECORD)
    (tmp_path / FILE).write_text(json.dumps(record.to_json()))
    assert load_training_record(tmp_path) == record
    assert record.initial_losses == (2.5, 2.0) and load_training_record(tmp_path / "none") is None


def test_the_record_of_a_step_lies_in_its_actor(tmp_path: Path) -> None:
    """``global_step_N`` of verl stands for the ``actor`` in it, as it does where weights are looked for."""
    (tmp_path / ACTOR).mkdir()
    (tmp_path / ACTOR / FILE).write_text(json.dumps(RECORD))
    found = load_training_record(tmp_path)
    assert found is not None and found == load_training_record(tmp_path / ACTOR)


def test_equal_configurations_have_equal_hashes_whatever_their_order() -> None:
    record = TrainingRecord.from_json(RECORD)
    turned = TrainingRecord.from_json(RECORD | {"config": dict(reversed(RECORD["config"].items())), "seed": 4})
    other = TrainingRecord.from_json(RECORD | {"config": RECORD["config"] | {"lr": 2e-6}})
    assert record.configuration == turned.configuration != other.configuration


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"initial_losses": []}, "initial_losses; at least one is needed"),
        ({"initial_losses": ["x"]}, "initial_losses[0] = 'x'; it must be a finite number"),
        ({"config": []}, "[config]: []; it must be a table"),
        ({"config": {"lr": None}}, "[config]: lr = None"),
        ({"step": -1}, "step = -1; it must be at least 0"),
        ({"sed": 3}, "unknown key 'sed'; nothing reads it; did you mean 'seed'?"),
    ],
)
def test_what_is_damaged_is_named_with_the_file(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (tmp_path / FILE).write_text(json.dumps(RECORD | change))
    with pytest.raises(CheckpointError) as caught:
        load_training_record(tmp_path)
    assert words in str(caught.value) and str(tmp_path / FILE) in str(caught.value)
    with pytest.raises(HarnessError, match="training record"):
        TrainingRecord.from_json(RECORD | change)
