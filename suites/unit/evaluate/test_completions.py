"""Reading completions that were produced elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluate.completions import Completion, read_completions
from harness.evaluate.tasks import ArithTask
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit

TASK = ArithTask()
FIRST, SECOND = TASK.items()[:2]


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def message(path: Path) -> str:
    """The one line that reading ``path`` fails with."""
    with pytest.raises(HarnessError) as caught:
        read_completions(path, TASK)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_reads_by_item_by_question_and_by_both(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.jsonl",
        {"completion": "#### 1", "item": FIRST.key},
        {"completion": "#### 2", "question": f" {SECOND.question}\n", "level": 0.05, "seed": 3, "truncated": True},
        {"completion": "", "item": FIRST.key, "question": FIRST.question, "seed": 1},
    )
    assert read_completions(path, TASK) == (
        Completion(FIRST, 0.0, 0, "#### 1", False),
        Completion(SECOND, 0.05, 3, "#### 2", True),
        Completion(FIRST, 0.0, 1, "", False),
    )


@settings(deadline=None)
@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.floats(0, 1, exclude_max=True), st.integers(0, 99)
)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, text: str, level: float, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    row = {"completion": text, "item": FIRST.key, "level": level, "seed": seed}
    path.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8", newline="")
    assert read_completions(path, TASK) == (Completion(FIRST, level, seed, text, False),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"item": ...}, "neither item nor question; one of them is needed"),
        ({"question": SECOND.question}, f"item {FIRST.key} is not the question"),
        ({"item": "0" * 16}, "item '0000000000000000' is not in the task arith"),
        ({"item": ..., "question": "How many?"}, "question 'How many?' is not in the task arith"),
        ({"item": 5}, "item = 5; it must be a text"),
        ({"item": None}, "item = None"),
        ({"item": ..., "question": ["q"]}, "question = ['q']"),
        ({"completion": ...}, "no completion"),
        ({"completion": None}, "completion = None; it must be a text"),
        ({"completion": ["#### 1"]}, "completion = ['#### 1']"),
        ({"level": 1}, "level = 1; it must be a fraction, at least 0 and below 1"),
        ({"level": -0.1}, "level = -0.1"),
        ({"level": 5}, "level = 5"),
        ({"level": True}, "level = True"),
        ({"level": False}, "level = False"),
        ({"level": float("nan")}, "level = nan"),
        ({"level": float("inf")}, "level = inf"),
        ({"level": 10**400}, "level = 1000"),
        ({"level": "0.05"}, "level = '0.05'"),
        ({"level": None}, "level = None"),
        ({"seed": -1}, "seed = -1; it must be a whole number of at least 0"),
        ({"seed": False}, "seed = False"),
        ({"seed": 1.0}, "seed = 1.0"),
        ({"seed": "1"}, "seed = '1'"),
        ({"seed": 2**63}, "seed = 9223372036854775808"),
        ({"truncated": 1}, "truncated = 1; it must be true or false"),
        ({"truncated": "false"}, "truncated = 'false'"),
        ({"levle": 0.05}, "unknown key 'levle'; nothing reads it; did you mean 'level'?"),
        ({"zzz": 1}, "unknown key 'zzz'; nothing reads it; known: completion, truncated, level, seed, item, question"),
    ],
)
def test_bad_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    row = {"completion": "#### 1", "item": FIRST.key, **change}
    row = {name: value for name, value in row.items() if value is not ...}
    path = write(tmp_path / "c.jsonl", {"completion": "#### 1", "item": SECOND.key}, row)
    text = message(path)
    assert "c.jsonl, line 2: " in text
    assert words in text


@pytest.mark.parametrize("level", [0, 0.0, -0.0])
def test_second_completion_of_one_draw(tmp_path: Path, level: float) -> None:
    row = {"completion": "#### 1", "item": FIRST.key}
    other = {"completion": "#### 2", "question": FIRST.question, "level": level, "seed": 0}
    path = write(tmp_path / "c.jsonl", row, {**row, "seed": 1}, {**row, "level": 0.05}, other)
    text = message(path)
    assert f"line 4: item {FIRST.key}, level 0, seed 0 is on line 1 already" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b'{"completion": "x", item: 1}\n', "line 1"),
        (b'{"completion": "#### 1", "it', "line 1"),
        (b'{"completion": "#### 1", "it', "the file ends within the line"),
        (b'{"completion": "caf\xe9"}\n', "line 1: 'utf-8' codec"),
        (b'{"completion": "caf\xc3', "the file ends within the line"),
        (b'{"completion": "\\udcff"}\n', "lone surrogates"),
        (b'"#### 1"\n', "line 1: '#### 1'; every line must be one JSON object"),
        (b'{"completion": "a", "completion": "b"}\n', "'completion' is given twice"),
    ],
)
def test_bad_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(content)
    assert words in message(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    assert "does not exist" in message(tmp_path / "c.jsonl")
    assert "is a directory" in message(tmp_path)
