"""blimp and choice: what they ask of a model, and what their data may not be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.tasks import load_task, requests_of, scores

pytestmark = pytest.mark.unit

PAIR = {"UID": "a", "sentence_good": "It is.", "sentence_bad": "It are."}
ROW = {"question": "Two and two?", "choices": ["four", "five"], "answer": 0}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_pair_asks_for_both_sentences_behind_a_space(tmp_path: Path) -> None:
    task = load_task("blimp", Path(write(tmp_path / "a.jsonl", PAIR)))
    (item,) = task.items()
    assert scores(task) and not scores(load_task("arith"))
    assert [(each.context, each.continuation) for each in requests_of(task, item)] == [
        ("", " It is."),
        ("", " It are."),
    ]
    assert (item.cluster, task.scorer, task.floor) == ("", "pair", 0.5)


def test_a_folder_holds_several_paradigms_which_are_clusters(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", {**PAIR, "UID": "b", "sentence_good": "We are."})
    write(tmp_path / "a.jsonl", PAIR)
    items = load_task("blimp", tmp_path).items()
    assert [(item.solution, item.cluster) for item in items] == [("It is.", "a"), ("We are.", "b")]


@pytest.mark.parametrize(
    ("row", "context"),
    [(ROW, "Question: Two and two?\nAnswer:"), ({**ROW, "context": "Two and two is"}, "Two and two is")],
)
def test_a_choice_is_asked_behind_its_question_or_its_context(tmp_path: Path, row: Any, context: str) -> None:
    given = {name: value for name, value in row.items() if name != "question" or "context" not in row}
    task = load_task("choice", Path(write(tmp_path / "a.jsonl", given)))
    (item,) = task.items()
    found = [(each.context, each.continuation) for each in requests_of(task, item)]
    assert found == [(context, " four"), (context, " five")]
    assert task.floor == 0.5 and item.solution == "four"


@pytest.mark.parametrize("answer", [1, "five", "B"])
def test_an_answer_is_an_index_a_text_or_a_letter(tmp_path: Path, answer: object) -> None:
    (item,) = load_task("choice", Path(write(tmp_path / "a.jsonl", {**ROW, "answer": answer}))).items()
    assert json.loads(item.reference) == {"choices": ["four", "five"], "answer": 1}


def test_the_floor_is_the_accuracy_of_guessing(tmp_path: Path) -> None:
    more = {"question": "?", "choices": list("wxyz"), "answer": 3}
    assert load_task("choice", Path(write(tmp_path / "a.jsonl", ROW, more))).floor == (1 / 2 + 1 / 4) / 2


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("blimp", {"sentence_good": "It is."}, "line 2: sentence_bad is missing"),
        ("blimp", {**PAIR, "sentence_bad": " "}, "line 2: sentence_bad is ' '"),
        ("blimp", {**PAIR, "sentence_bad": "It is."}, "line 2: both sentences are"),
        ("blimp", {**PAIR, "UID": 3}, "line 2: UID is 3"),
        ("choice", {"question": "?", "answer": 0}, "line 2: choices are missing"),
        ("choice", {**ROW, "choices": ["one"]}, "at least two texts"),
        ("choice", {**ROW, "choices": ["one", ""]}, "that are not empty"),
        ("choice", {**ROW, "choices": ["one", "one"]}, "no two may be equal"),
        ("choice", {**ROW, "answer": 2}, "line 2: answer is 2; it must be an index from 0 to 1"),
        ("choice", {**ROW, "answer": -1}, "answer is -1"),
        ("choice", {**ROW, "answer": True}, "answer is true|answer is True"),
        ("choice", {**ROW, "answer": "C"}, "answer is 'C'"),
        ("choice", {**ROW, "answer": None}, "answer is missing"),
        ("choice", {**ROW, "question": " "}, "question is ' '"),
        ("choice", {**ROW, "context": "both"}, "either question or context"),
        ("choice", {**ROW, "cluster": 1}, "cluster is 1"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(
    tmp_path: Path, refusal: Callable[..., str], task: str, row: dict[str, Any], words: str
) -> None:
    sound = PAIR if task == "blimp" else ROW
    path = Path(write(tmp_path / "a.jsonl", sound, row))
    text = refusal(lambda: load_task(task, path).items())
    assert str(path) in text
    assert re.search(words, text), text


@pytest.mark.parametrize("task", ["blimp", "choice"])
def test_data_are_needed(task: str, tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "--data" in refusal(lambda: load_task(task).items())
    assert "does not exist" in refusal(lambda: load_task(task, tmp_path / "none").items())


def test_a_folder_without_pairs_is_refused(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "holds no .jsonl file" in refusal(lambda: load_task("blimp", tmp_path).items())
