"""Weights that were quantized before say so: in the details of a source and its key, as long as they are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from harness.checkpoints.dequantized import Dequantized, dequantized_from
from harness.checkpoints.folder import fingerprint_weights
from harness.checkpoints.source import resolve
from harness.exceptions import CheckpointError
from harness.runs.dequantized import FIELD, dequantized_sentence

pytestmark = pytest.mark.unit


@pytest.fixture
def marked(tiny: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint, said to be dequantized."""
    out = tmp_path / "marked"
    shutil.copytree(tiny, out)
    return mark(out, Dequantized("GGUF Q4_1", "m.gguf", "ab" * 32, fingerprint_weights(tiny)).to_json())


def mark(out: Path, value: object) -> Path:
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {FIELD: value}))
    return out


def test_most_checkpoints_say_nothing_of_the_kind(tiny: Path) -> None:
    assert dequantized_from(tiny) is None and FIELD not in resolve(tiny).details
    assert resolve(tiny).stored_text is None


def test_the_details_and_the_key_have_it(marked: Path) -> None:
    source = resolve(marked)
    assert source.details[FIELD]["unchanged"] is True
    assert source.stored_text == "file in GGUF Q4_1 (abababababab), dequantized"


def test_weights_that_were_trained_on_are_not_called_dequantized(marked: Path) -> None:
    tensors = load_file(marked / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, marked / "model.safetensors", metadata={"format": "pt"})
    said = dequantized_sentence(resolve(marked).details)
    assert said is not None and "changed since" in said


@pytest.mark.parametrize("value", ["GGUF", {"format": "GGUF Q4_1"}, {"format": 4}])
def test_a_damaged_mark_is_refused(marked: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match=FIELD):
        resolve(mark(marked, value))
