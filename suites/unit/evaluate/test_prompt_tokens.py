"""Token ids of the rendered prompts decide whether a tokenizer fits, and their number whether the context does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from harness.evaluate.prepared import prepare
from harness.exceptions import CheckpointError, HarnessError
from harness.spec import EvalSpec
from harness.testing.tokenizer import CHAT_TEMPLATE

pytestmark = pytest.mark.unit

SPEC = EvalSpec("arith", items=2, levels=(0.0,), max_new_tokens=4)
EXTRA = "<image_soft_token>"


@pytest.fixture
def with_extra(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint whose tokenizer has one added token more than its embedding has rows, as Gemma 3 1B's has."""
    folder = Path(shutil.copytree(tiny, tmp_path / "extra"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [EXTRA]}, replace_extra_special_tokens=False)
    tokenizer.save_pretrained(folder)
    return folder


def test_an_added_token_that_no_prompt_holds_does_no_harm(with_extra: Path, tiny: Path) -> None:
    prepared = prepare(with_extra, SPEC)
    assert len(prepared.checkpoint.tokenizer) == prepared.checkpoint.rows + 1
    assert prepared.prompts == prepare(tiny, SPEC).prompts


def test_an_added_token_in_a_prompt_is_refused(with_extra: Path, refusal: Callable[..., str]) -> None:
    (with_extra / "chat_template.jinja").write_text(EXTRA + CHAT_TEMPLATE)
    line = refusal(prepare, with_extra, SPEC, kind=CheckpointError)
    assert f"a prompt holds token 260 ({EXTRA!r}), and its embedding has 260 rows" in line


def test_padding_that_the_embedding_does_not_know_is_the_end_of_sequence(with_extra: Path) -> None:
    file = with_extra / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token": EXTRA}))
    prepared = prepare(with_extra, SPEC)
    assert prepared.checkpoint.tokenizer.pad_token_id == 260
    assert prepared.decoding.pad == prepared.checkpoint.tokenizer.eos_token_id


def test_more_than_added_tokens_beyond_the_embedding_is_another_vocabulary(
    tiny: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "larger"))
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text())
    data["model"]["vocab"] |= {f"word{number}": 260 + number for number in range(3)}
    file.write_text(json.dumps(data))
    line = refusal(prepare, folder, SPEC, kind=CheckpointError)
    assert "its tokenizer has 263 tokens and its embedding 260: another vocabulary" in line


@pytest.mark.parametrize("field", ["model_max_length", "max_position_embeddings"])
def test_a_prompt_that_is_too_long_is_refused_before_the_evaluation(
    tiny: Path, tmp_path: Path, refusal: Callable[..., str], field: str
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "short"))
    file = folder / ("tokenizer_config.json" if field == "model_max_length" else "config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: 40}))
    line = refusal(prepare, folder, SPEC, kind=HarnessError)
    assert "a prompt of" in line and str(folder) in line
    assert ("model_max_length of the tokenizer" in line) == (field == "model_max_length")
