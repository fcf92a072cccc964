"""What lm-eval 0.4.13 wrote is read as it was written; what was edited, cut or is of another schema is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.imported.formats import read_results
from suites.unit.evaluate.imported.written import LM_EVAL, STRICT, copied, lines, samples, write_lines

pytestmark = pytest.mark.unit


def test_real_samples_have_the_metrics_of_every_filter() -> None:
    read = read_results(samples())
    assert read.tool == "lm-eval 0.4.13" and read.task == "arith_tiny" and read.version == "1.0"
    assert len(read.rows) == 6 and set(read.metrics) == {STRICT, "exact_match,flexible-extract"}
    assert read.conditions.dtype == "float32" and read.conditions.max_new_tokens == "96"
    assert json.loads(read.conditions.decoding) == {"do_sample": False, "until": ["<|im_end|>"]}
    first = read.rows[0]
    assert "stamps" in first.question and first.reference == first.answer == "338" and first.text.endswith("#### 338")
    assert set(read.files) == {file.name for file in (samples(), *LM_EVAL.glob("results_*"))}


def test_multiple_choice_is_read_as_well() -> None:
    read = read_results(LM_EVAL, task="choice_tiny")
    assert set(read.metrics) == {"acc,none", "acc_norm,none"} and read.conditions.decoding == "log-likelihood"
    means = {name: sum(row.values[name] or 0 for row in read.rows) / len(read.rows) for name in read.metrics}
    assert means == pytest.approx({name: read.means[name] for name in means})


def test_a_folder_of_several_tasks_asks_which(refusal: Callable[..., str]) -> None:
    assert "arith_tiny (1), choice_tiny (1)" in refusal(read_results, LM_EVAL)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"target": "7"}, "target_hash = 5d8f6cce532a7aeb...; it is not that of the line"),
        ({"doc": {"question": "?", "answer": "338"}}, "doc_hash"),
        ({"exact_match": "yes"}, "the metrics"),
        ({"doc_id": "0"}, "doc_id = '0'; a line of lm-eval's samples has another type there"),
        ({"filter": None}, "filter = None"),
        ({"metrics": ["f1"]}, "no f1; its metrics name it"),
        ({"exact_match": float("nan")}, "a score is a finite number"),
    ],
)
def test_an_edited_line_is_named(tmp_path: Path, refusal: Callable[..., str], edit: dict[str, Any], said: str) -> None:
    file = copied(samples(), tmp_path / "copy")
    rows = lines(file)
    write_lines(file, [rows[0] | edit, *rows[1:]])
    if edit == {"exact_match": "yes"}:  # no score of that filter
        assert read_results(file).rows[0].values[STRICT] is None
        return
    text = refusal(read_results, file)
    assert said in text and "line 1" in text


@pytest.mark.parametrize("field", ["doc_hash", "filter", "resps", "metrics"])
def test_a_missing_field_is_named_with_its_line(tmp_path: Path, refusal: Callable[..., str], field: str) -> None:
    file = copied(samples(), tmp_path / "copy")
    rows = lines(file)
    del rows[2][field]
    write_lines(file, rows)
    assert f"line 3: no {field}" in refusal(read_results, file, "lm-eval")


def test_samples_that_were_cut_do_not_have_the_number_that_was_stated(
    tmp_path: Path, refusal: Callable[..., str]
) -> None:
    file = copied(samples(), tmp_path / "copy")
    rows = lines(file)
    write_lines(file, [row for row in rows if row["doc_id"] != 5])
    assert "states 6 documents of arith_tiny, the samples hold 5" in refusal(read_results, file)
    write_lines(file, [*rows, rows[0]])
    assert "doc_id 0 stands on another line with the same filter" in refusal(read_results, file)


def test_the_results_must_lie_beside_and_be_of_the_task(tmp_path: Path, refusal: Callable[..., str]) -> None:
    file = copied(samples(), tmp_path / "copy")
    (results,) = file.parent.glob("results_*.json")
    content = json.loads(results.read_text())
    results.write_text(json.dumps(content | {"results": {}}))
    assert "no results of arith_tiny" in refusal(read_results, file)
    results.unlink()
    assert "is not beside it" in refusal(read_results, file)
    file.rename(file.with_name("answers.jsonl"))
    assert "samples_TASK_DATE.jsonl" in refusal(read_results, file.with_name("answers.jsonl"))
