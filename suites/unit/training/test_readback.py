"""A checkpoint read back: it is asked what verl asks, on the day that templates are told, whatever day it is."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from harness.testing.tokenizer import CHAT_TEMPLATE
from harness.training.book import load_recipe
from harness.training.check import place_of
from harness.training.data import prompts_hash, rows, write_data
from harness.training.readback import read_back
from harness.training.verl_plugin.day import one_day

pytestmark = pytest.mark.unit
ITEMS = 3
CHANGES = {"data": {"validation_items": ITEMS, "train_items": 8, "max_response": 2}}


class Today(datetime):
    """The clock of another day."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.fromisoformat("2026-11-29")


@pytest.fixture
def dated(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny checkpoint with a template that asks for the day, on a day that is not the one of evaluations."""
    folder = shutil.copytree(tiny, tmp_path / "dated")
    (folder / "chat_template.jinja").write_text("{{- strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE)
    monkeypatch.setattr(chat_template_utils, "datetime", Today)
    return folder


def asked_by_verl(checkpoint: Path) -> str:
    """The hash of the validation's prompts as verl renders them, which says no day."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    told = [tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True) for row in rows("test", ITEMS)]
    return prompts_hash(each["input_ids"] for each in told)


def test_the_checkpoint_is_asked_what_was_validated(dated: Path, tmp_path: Path) -> None:
    recipe = load_recipe("E5", "tiny", CHANGES)
    place = place_of(recipe, tmp_path / "run")
    write_data(recipe, place)
    found = read_back(recipe, dated, 1, place.validation_file)
    assert found.items == ITEMS and not found.problem
    assert found.prompts != asked_by_verl(dated), "the clock of the machine was asked"
    one_day()
    assert found.prompts == asked_by_verl(dated)


def test_the_hash_of_prompts_is_that_of_a_set() -> None:
    assert prompts_hash([(1, 2), (3,)]) == prompts_hash([(3,), (1, 2), (3,)])
    assert len({prompts_hash(each) for each in ([(1, 2)], [(12,)], [(1,), (2,)], [])}) == 4
