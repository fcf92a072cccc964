"""SVAMP: its two layouts, what a row must hold, and how its answers are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.answers import score_text
from harness.evaluate.tasks import load_task

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
ROWS = [
    {
        "ID": "chal-1",
        "Body": "Each pack costs 76 dollars. There is a discount of 25 dollars on each pack",
        "Question": "How much do you have to pay?",
        "Equation": "( 76.0 - 25.0 )",
        "Answer": 51.0,
        "Type": "Subtraction",
    },
    {"Body": "He had 3 boxes.", "Question": "How many boxes?", "Answer": "3"},
    {
        "Body": "Of 7 in all,",
        "Question": "how many each?",
        "Equation": "( 7.0 / ( 4.0 + 3.0 ) )",
        "Answer": 1.0,
        "Type": "Division",
    },
]


def write(path: Path, rows: list, lines: bool = False) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=4))
    return path


def test_both_layouts_give_the_same_items(tmp_path: Path) -> None:
    array, lines = (
        load_task("svamp", write(tmp_path / name, ROWS, "l" in name[-1:])) for name in ("a.json", "b.jsonl")
    )
    assert array.items() == lines.items() and array.dataset_hash() == lines.dataset_hash()
    first, second, third = array.items()
    assert first.question == f"{ROWS[0]['Body']}. {ROWS[0]['Question']}" and second.question.startswith(
        "He had 3 boxes. "
    )
    assert third.question == "Of 7 in all, how many each?"
    assert [item.reference for item in array.items()] == ["51", "3", "1"]
    assert [item.group for item in array.items()] == ["Subtraction", "", "Division"]
    assert array.messages(first)[0]["content"].endswith('the final answer after "####".')


def test_the_working_of_an_example_ends_in_the_answer_that_is_asked_for(tmp_path: Path) -> None:
    items = load_task("svamp", write(tmp_path / "a.json", ROWS)).items()
    assert [item.solution for item in items] == ["76 - 25 = 51\n#### 51", "#### 3", "( 7 / ( 4 + 3 ) ) = 1\n#### 1"]
    for item in items:
        assert score_text(item.solution, item.reference).strict == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Answer": "many"}, "Answer 'many'; the answer must be one number"),
        ({"Answer": True}, "Answer True"),
        ({"Answer": None}, "Answer None"),
        ({"Question": " "}, "Question is empty"),
        ({"Body": 3}, "Body is 3; it must be text"),
        ({"Type": 3}, "Type is 3"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, refusal: Refusal, change: dict, words: str) -> None:
    path = write(tmp_path / "a.json", [ROWS[0], ROWS[1] | change])
    line = refusal(load_task("svamp", path).items)
    assert line.startswith(f"{path}, line 10: {words}")
    lines = write(tmp_path / "a.jsonl", [ROWS[0], ROWS[1] | change], lines=True)
    assert refusal(load_task("svamp", lines).items).startswith(f"{lines}, line 2: {words}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "has no rows"),
        ('[{"Body": "b", "Question": "q", "Answer": 1}', "line 1: the file ends where ',' or ']' belongs"),
        ('[\n{"Body": "b", "Question": "q"}\n]', "line 2: Answer is missing"),
        ('[\n{"Body": "b",\n', "line 2: "),
        ("[\n3]", "line 2: 3; every row must be a JSON object"),
        ('[{"Body": "b", "Body": "b"}]', "the name 'Body' is given twice"),
        ('[{"Body": "b", "Question": "q", "Answer": 1}] x', "line 1: 'x' behind the array"),
        ('[{"Body": "\\ud800", "Question": "q", "Answer": 1}]', "surrogates not allowed"),
    ],
)
def test_a_damaged_array_is_refused_with_its_line(tmp_path: Path, refusal: Refusal, text: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert words in refusal(load_task("svamp", path).items)


def test_a_file_is_needed_and_of_a_known_kind(tmp_path: Path, refusal: Refusal) -> None:
    assert "give --data SVAMP.json" in refusal(load_task("svamp").items)
    assert "extension '.csv'" in refusal(load_task("svamp", write(tmp_path / "a.csv", ROWS)).items)
    assert "does not exist" in refusal(load_task("svamp", tmp_path / "none.json").items)


def test_the_same_problem_with_two_answers_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    path = write(tmp_path / "a.json", [ROWS[0], ROWS[0] | {"Answer": 52.0}])
    assert "has the references 51 and 52" in refusal(load_task("svamp", path).items)
