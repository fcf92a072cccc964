"""The task of requests that another program made: its file, its items, and what is no such file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.api import evaluate
from harness.evaluate.tasks import load_task
from harness.evaluate.tasks.base import Continuation
from harness.evaluate.tasks.requests import item_of, written
from harness.exceptions import HarnessError
from harness.gates import GatePolicy, gate
from harness.record import CERTIFIED
from harness.reports.run_report import run_report
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit

PAIRS = {"requests": [["Tom has", " 3"], ["Tom has", " 4"]]}
PROMPT = {"prompt": "Tom has", "until": ["\n"], "max_tokens": 4}


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "requests.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_continuations_of_a_line_are_one_item(tmp_path: Path) -> None:
    task: Any = load_task("requests", file_of(tmp_path, PAIRS))
    (item,) = task.items()
    assert task.requests(item) == (Continuation("Tom has", " 3"), Continuation("Tom has", " 4"))
    assert (task.scorer, item.reference) == ("perplexity", '{"words":3,"bytes":4}')


def test_a_text_is_scored_as_a_whole_and_a_prompt_continued(tmp_path: Path) -> None:
    text: Any = load_task("requests", file_of(tmp_path, {"text": "Tom has 3."}))
    assert text.requests(text.items()[0]) == (Continuation("", "Tom has 3.", rolling=True),)
    task: Any = load_task("requests", file_of(tmp_path, PROMPT))
    assert (task.until, task.max_new_tokens, task.scorer) == (("\n",), 4, "unscored")
    assert task.messages(task.items()[0]) == [{"role": "user", "content": "Tom has"}]


def test_the_key_is_all_that_is_asked() -> None:
    others = [PROMPT | change for change in ({"prompt": "Ann has"}, {"until": []}, {"max_tokens": 5})]
    assert len({item_of(row).key for row in (PROMPT, *others, PAIRS)}) == 5


def test_a_file_is_the_same_whatever_the_order() -> None:
    rows = [PROMPT, PROMPT | {"prompt": "Ann"}]
    assert written(rows) == written([*rows[::-1], *rows])
    assert [json.loads(line) for line in written(rows).splitlines()] == [rows[1], rows[0]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([PAIRS, PAIRS], "line 2: its request stands in a line before"),
        ([PROMPT, PROMPT | {"prompt": "Ann has", "max_tokens": 5}], "must be the same on every line"),
        ([PAIRS, PROMPT], "line 2"),
        ([{"requests": []}], "pairs of a context and a continuation"),
        ([{"requests": [["a", ""]]}], "pairs of a context and a continuation"),
        ([{"requests": [["a", "b"], ["a", "b"]]}], "none of them twice"),
        ([{"requests": [["a", "b", "c"]]}], "pairs of a context and a continuation"),
        ([{"text": " "}], "a text"),
        ([PROMPT | {"prompt": ""}], "a prompt, texts that end it"),
        ([PROMPT | {"max_tokens": True}], "a number of tokens"),
        ([PROMPT | {"more": 1}], "and nothing else"),
        ([{"question": "a"}], "it must have requests and nothing else"),
    ],
)
def test_another_file_is_refused_by_its_line(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        load_task("requests", file_of(tmp_path, *rows))


def test_it_needs_its_file() -> None:
    with pytest.raises(HarnessError, match="its requests stand in a file; give --data FILE"):
        load_task("requests")


def test_continuations_are_gated_in_nats(two_layers: Path, tmp_path: Path) -> None:
    rows = [{"requests": [[f"{name} has", " 3"], [f"{name} has", " 4"]]} for name in ("Tom", "Ann", "Bob", "Eve")]
    spec = EvalSpec("requests", str(file_of(tmp_path, *rows)), None, levels=(0.0, 0.05), noise_seeds=1)
    one, other = (evaluate(two_layers, spec, tmp_path / name, device="cpu").arm for name in ("one", "other"))
    found = gate(one, other, GatePolicy(nats_margin=0.5))
    assert [level.nats is not None and level.nats.lost.estimate for level in found.levels] == [0.0, 0.0]


def test_a_run_of_prompts_is_certified_and_claims_no_accuracy(two_layers: Path, tmp_path: Path) -> None:
    data = file_of(tmp_path, *(PROMPT | {"prompt": f"{name} has"} for name in ("Tom", "Ann", "Bob")))
    spec = EvalSpec("requests", str(data), None, levels=(0.0, 0.05), noise_seeds=1)
    run = evaluate(two_layers, spec, tmp_path / "run", device="cpu")
    assert run.arm.certificate.status == CERTIFIED
    assert [level["accuracy"] for level in run_report(run)["levels"]] == [None, None]
