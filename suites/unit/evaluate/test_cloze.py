"""cloze: which texts it asks for, in three layouts, and what its data may not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.evaluate.tasks import load_task, requests_of, scores
from harness.record import CERTIFIED
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit
ROW = {"context": "Two and two is", "answer": "four"}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "context", "continuation"),
    [
        (ROW, "Two and two is", " four"),
        ({"text": "Two and two is four"}, "Two and two is", " four"),
        ({"text": "Two and\ntwo  is  four.", "id": 3}, "Two and\ntwo  is ", " four."),
        ({"context": "Answer:\n", "continuation": "four"}, "Answer:\n", "four"),
    ],
)
def test_an_answer_is_asked_behind_its_context(tmp_path: Path, row: Any, context: str, continuation: str) -> None:
    task = load_task("cloze", write(tmp_path / "a.jsonl", row))
    (item,) = task.items()
    assert scores(task) and task.scorer == "greedy"
    assert [(each.context, each.continuation) for each in requests_of(task, item)] == [(context, continuation)]
    assert (item.question, item.reference) == (context, continuation.strip())


def test_layouts_that_ask_the_same_are_the_same_item(tmp_path: Path) -> None:
    """So that a baseline pairs them, and a repeated one is dropped."""
    rows = [ROW, {"text": "Two and two is four"}, {"context": "Two and two is", "continuation": " four"}]
    assert len(load_task("cloze", write(tmp_path / "a.jsonl", *rows)).items()) == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "fields none; an item has text"),
        ({"context": "Two"}, "fields context; an item has text"),
        ({"answer": "four"}, "fields answer; an item has text"),
        ({**ROW, "text": "a b"}, "an item has text"),
        ({**ROW, "continuation": " four"}, "an item has text"),
        ({"text": "four"}, "text is 'four'; its last word is asked for"),
        ({"text": "two is four "}, "its last word is asked for"),
        ({"text": " four"}, "its last word is asked for"),
        ({"text": ""}, "text is ''; it must be text"),
        ({"text": 4}, "text is 4; it must be text"),
        ({**ROW, "answer": " "}, "answer is ' '; it must be text"),
        ({**ROW, "answer": None}, "answer is None|answer is null"),
        ({**ROW, "context": ""}, "context is ''"),
        ({**ROW, "cluster": 1}, "cluster is 1"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(
    tmp_path: Path, refusal: Callable[..., str], row: dict[str, Any], words: str
) -> None:
    path = write(tmp_path / "a.jsonl", ROW, row)
    text = refusal(lambda: load_task("cloze", path).items())
    assert f"{path}, line 2" in text
    assert any(each in text for each in words.split("|")), text


def test_data_are_needed(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "--data" in refusal(lambda: load_task("cloze").items())
    assert "does not exist" in refusal(lambda: load_task("cloze", tmp_path / "none").items())


ROWS = [
    {"context": f"What is {n} plus {n}? It is", "answer": f"{2 * n} pens", "cluster": f"c{n % 3}"} for n in range(9)
]


def test_a_run_is_certified_and_keeps_the_log_likelihoods(two_layers: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", *ROWS)
    spec = EvalSpec("cloze", str(data), 8, levels=(0.0, 0.05), noise_seeds=1, fewshot=1)
    prepared = prepare(two_layers, spec, "cpu")
    (forced,) = prepared.requests[prepared.items[0].key]
    told = prepared.checkpoint.tokenizer.decode(forced.context)
    assert told.count("What is") == 2 and "pens\n\nWhat is" in told  # an example, and the question
    evaluate(prepared, tmp_path / "run", 4)
    run = load_run(tmp_path / "run")
    assert run.arm.certificate.status == CERTIFIED
    assert len(run.results) == 16
    for result in run.results:
        (own,) = result.requests
        assert own.nats is not None and own.nats < 0
        assert result.score == float(own.greedy)
