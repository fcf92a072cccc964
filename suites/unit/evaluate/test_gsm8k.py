"""GSM8K from both layouts and both file kinds, the hub, and every bad file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.evaluate.tasks import load_task
from harness.evaluate.tasks.base import item_key
from harness.evaluate.tasks.gsm8k import Gsm8kTask
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit

GSM8K = Path(__file__).resolve().parents[4] / "shared" / "data" / "gsm8k"
ASK = 'Let\'s think step by step and output the final answer after "####".'
ROWS = [
    {"question": "How much is 1,000 + 234?", "answer": "1000+234=<<1000+234=1234>>1,234\n#### 1,234"},
    {"question": "How much is 2 - 5?", "answer": "2-5=-3\n#### -3"},
]
Rows = list[dict[str, Any]]


def verl_row(row: dict[str, str], index: int) -> dict[str, Any]:
    """A row as verl's preprocessing writes it."""
    return {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": f"{row['question']} {ASK}"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": row["answer"].rpartition("#### ")[2].replace(",", "")},
        "extra_info": {"answer": row["answer"], "index": index, "question": row["question"], "split": "test"},
    }


def verl_rows(rows: Rows = ROWS) -> Rows:
    return [verl_row(row, index) for index, row in enumerate(rows)]


def write_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def message(path: Path) -> str:
    """The one line that loading ``path`` fails with."""
    with pytest.raises(HarnessError) as caught:
        Gsm8kTask(path).items()
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


FILES: list[Any] = [
    pytest.param(write_jsonl, "d.jsonl", lambda rows: rows, id="original-jsonl"),
    pytest.param(write_parquet, "d.PARQUET", lambda rows: rows, id="original-parquet"),
    pytest.param(write_jsonl, "d.jsonl", verl_rows, id="verl-jsonl"),
    pytest.param(write_parquet, "d.parquet", verl_rows, id="verl-parquet"),
]


@pytest.mark.parametrize(("write", "name", "convert"), FILES)
def test_both_layouts_give_the_same_items_and_messages(
    tmp_path: Path, write: Callable[[Path, Rows], Path], name: str, convert: Callable[[Rows], Rows]
) -> None:
    task = load_task("gsm8k", write(tmp_path / name, convert(ROWS)))
    items = task.items()
    assert [(item.question, item.reference, item.solution) for item in items] == [
        (row["question"], reference, row["answer"]) for row, reference in zip(ROWS, ("1234", "-3"), strict=True)
    ]
    assert [item.key for item in items] == [item_key("gsm8k", item.question, item.reference) for item in items]
    assert task.messages(items[0]) == [{"role": "user", "content": f"How much is 1,000 + 234? {ASK}"}]


@pytest.mark.skipif(not GSM8K.is_dir(), reason=f"the real GSM8K files are not in {GSM8K}")
@pytest.mark.parametrize(("write", "name", "convert"), FILES)
def test_the_real_split_has_the_same_keys_in_every_form(
    tmp_path: Path, write: Callable[[Path, Rows], Path], name: str, convert: Callable[[Rows], Rows]
) -> None:
    original = Gsm8kTask(GSM8K / "test.jsonl")
    rows = [json.loads(line) for line in (GSM8K / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    task = Gsm8kTask(write(tmp_path / name, convert(rows)))
    assert len(task.items()) == 1319
    assert [item.key for item in task.items()] == [item.key for item in original.items()]
    assert task.dataset_hash() == original.dataset_hash() == "df6c067683dbb796"
    for one, other in zip(task.items(), original.items(), strict=True):
        assert task.messages(one) == original.messages(other)


def test_verl_s_own_messages_are_kept(tmp_path: Path) -> None:
    row = verl_rows()[0]
    row["prompt"] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1,000 + 234?"}]
    task = Gsm8kTask(write_jsonl(tmp_path / "d.jsonl", [row]))
    assert task.messages(task.items()[0]) == row["prompt"]
    assert task.items()[0].question == ROWS[0]["question"]


@pytest.mark.parametrize(("value", "reference"), [(1234, "1234"), ("1,234", "1234"), (1234.0, "1234")])
def test_ground_truth_is_normalised(tmp_path: Path, value: object, reference: str) -> None:
    row = verl_rows()[0]
    row["reward_model"]["ground_truth"] = value
    del row["extra_info"]["answer"]
    item = Gsm8kTask(write_jsonl(tmp_path / "d.jsonl", [row])).items()[0]
    assert (item.reference, item.solution) == (reference, "")


def test_repeated_rows_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(Gsm8kTask(write_jsonl(tmp_path / "d.jsonl", [*ROWS, ROWS[0]])).items()) == 2
    assert "1 repeated questions" in caplog.text


def test_contradictory_rows_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [*ROWS, {**ROWS[0], "answer": "#### 5"}])
    assert "references 1234 and 5" in message(path)


def test_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in message(tmp_path / "none.jsonl")
    assert "does not exist" in message(tmp_path / "none.parquet")
    assert "does not exist" in message(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["d", "d.jsonl", "d.parquet"])
def test_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert "is a directory" in message(tmp_path / name)


@pytest.mark.parametrize("name", ["d.jsonl", "d.parquet"])
@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_empty_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "is empty" in message(tmp_path / name)


def test_parquet_without_rows(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "d.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS).slice(0, 0), path)
    assert "has no rows" in message(path)


def test_unknown_extension(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("question,answer\n")
    assert "'.csv'" in message(path)
    assert ".jsonl or .parquet" in message(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"question": "q"', "line 2.*Expecting"),
        (b"[1, 2]", r"line 2: \[1, 2\].*one JSON object"),
        (b'{"question": "\xff"}', "line 2.*UTF-8"),
        (b'{"question": "\\ud800"}', "line 2.*surrogates"),
        (b'{"question": "q", "question": "r"}', "line 2.*'question' is given twice"),
        (b"[" * 100_000, "line 2.*recursion"),
        (b'{"question": ' + b"9" * 5000 + b"}", "line 2.*one JSON object"),
    ],
)
def test_unreadable_line(tmp_path: Path, line: bytes, words: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b"\n" + line + b"\n")
    with pytest.raises(HarnessError, match=words):
        Gsm8kTask(path).items()


def test_truncated_jsonl(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    assert "the file ends within the line" in message(path)


def test_truncated_parquet_at_any_length(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "d.parquet", ROWS)
    content = path.read_bytes()
    for length in range(1, len(content), 101):
        path.write_bytes(content[:length])
        assert "complete Parquet" in message(path)


def test_missing_columns(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [{"question": "q", "solution": "#### 1"}])
    assert "columns question, solution; GSM8K has question, answer (original) or prompt" in message(path)


def test_missing_column_in_a_later_row(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [ROWS[0], {"question": "q"}])
    assert "line 2: answer is missing" in message(path)
    write_jsonl(path, [verl_rows()[0], ROWS[1]])
    assert "line 2: extra_info is missing" in message(path)


@pytest.mark.parametrize("answer", ["5", "#### NaN", "#### ", "#### 1.2.3", "", "#### inf"])
def test_answer_without_a_marked_number(tmp_path: Path, answer: str) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [{"question": "q", "answer": answer}])
    assert "line 1: answer ends in" in message(path)
    assert "'#### N'" in message(path)


@pytest.mark.parametrize("value", [float("nan"), "NaN", None, True, "", "five", [5]])
def test_ground_truth_that_is_no_number(tmp_path: Path, value: object) -> None:
    row = verl_rows()[0]
    row["reward_model"]["ground_truth"] = value
    assert "line 1: ground_truth" in message(write_jsonl(tmp_path / "d.jsonl", [row]))


def test_ground_truth_that_contradicts_the_answer(tmp_path: Path) -> None:
    row = verl_rows()[0]
    row["reward_model"]["ground_truth"] = "1235"
    assert "'1235' but extra_info.answer ends in 1234" in message(write_jsonl(tmp_path / "d.jsonl", [row]))


@pytest.mark.parametrize(
    "prompt", [None, [], "text", ["text"], [{"role": "user"}], [{"role": "user", "content": 5}], {"role": "user"}]
)
def test_prompt_of_another_shape(tmp_path: Path, prompt: object) -> None:
    row = {**verl_rows()[0], "prompt": prompt}
    assert "line 1" in message(write_jsonl(tmp_path / "d.jsonl", [row]))
    assert "prompt" in message(tmp_path / "d.jsonl")


@pytest.mark.parametrize("question", ["", " \n", None, 5])
def test_question_that_is_no_text(tmp_path: Path, question: object) -> None:
    row = {"question": question, "answer": "#### 1"}
    assert "question" in message(write_jsonl(tmp_path / "d.jsonl", [row]))


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", ROWS)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "Permission denied" in message(path)


def test_hub_rows_are_the_original_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*names: str, split: str) -> Rows:
        asked.append((*names, split))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    task = load_task("gsm8k")
    assert [item.reference for item in task.items()] == ["1234", "-3"]
    assert task.dataset_hash()
    assert asked == [("openai/gsm8k", "main", "test")]


def test_hub_failure_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*names: str, split: str) -> Rows:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(HarnessError, match=r"openai/gsm8k.*ConnectionError: no network.*--data FILE"):
        load_task("gsm8k").items()


@pytest.mark.parametrize("answers", [False, True])
def test_without_a_hub_its_cache_alone_is_asked_and_nothing_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    from huggingface_hub import HfApi, constants

    def asked(self: HfApi, path: str, timeout: float) -> None:
        if not answers:
            raise ConnectionError("no network")

    monkeypatch.setattr(HfApi, "dataset_info", asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    config, seen = SimpleNamespace(HF_HUB_OFFLINE=False), []

    def load_dataset(*names: str, split: str) -> Rows:
        seen.append((constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE))
        raise ConnectionError("nothing in the cache")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset, config=config))
    with pytest.raises(HarnessError, match="nothing in the cache"):
        load_task("gsm8k").items()
    assert seen == [(not answers, not answers)]
    assert not constants.HF_HUB_OFFLINE and not config.HF_HUB_OFFLINE
