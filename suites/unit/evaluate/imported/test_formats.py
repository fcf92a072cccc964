"""Files show their format; results of NeMo Evaluator, verl and OpenAI's evals are read by their schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import import_verb
from harness.evaluate.imported.formats import FORMATS, format_of, read_results
from harness.evaluate.imported.importing import ImportOptions, import_results
from suites.unit.evaluate.imported.written import (
    EVALS,
    INSPECT,
    LM_EVAL,
    NEMO,
    lines,
    nemo,
    openai,
    samples,
    verl,
    write_lines,
)

pytestmark = pytest.mark.unit


def test_every_file_shows_its_format(tmp_path: Path, refusal: Callable[..., str]) -> None:
    own = nemo(tmp_path / "n" / "results.jsonl", [1])
    found = [
        *(samples(), LM_EVAL, INSPECT / "a.json", INSPECT / "two.eval", own, own.parent),
        *(verl(tmp_path / "8.jsonl", [1]), openai(tmp_path / "log.jsonl", [True])),
        *(EVALS / "sums-a.jsonl", NEMO, NEMO / "sums/byob_predictions.jsonl", NEMO / "sums/byob_results.json"),
    ]
    names = ["lm-eval", "lm-eval", "inspect", "inspect", "nemo", "nemo", "verl", "openai", "openai", *["nemo"] * 3]
    assert [format_of(path) for path in found] == names
    other = write_lines(tmp_path / "other.jsonl", [{"prompt": "?", "completion": "!"}])
    assert 'its first line has ["completion", "prompt"]' in refusal(read_results, other)
    (tmp_path / "empty").mkdir()
    assert "shows none of the formats" in refusal(read_results, tmp_path / "empty")
    assert "no such file or folder" in refusal(read_results, tmp_path / "nowhere")
    assert "lm-eval" in refusal(read_results, other, "lmeval")
    assert ", ".join(FORMATS) == import_verb.FORMATS


def test_a_dump_of_verl(tmp_path: Path, refusal: Callable[..., str]) -> None:
    file = verl(tmp_path / "8.jsonl", [1, 0.0, 1.0], repeats=2, acc=True, pred="3", uid="x", data_source="sums")
    read = read_results(file, task="sums")
    assert read.task == "sums" and set(read.metrics) == {"score", "acc"} and read.facts == {"step": 8}
    assert [row.seed for row in read.rows] == [0, 0, 0, 1, 1, 1] and read.rows[0].answer == "3"
    rows = lines(file)
    assert "line 2: step 9; one file is one step" in refusal(
        read_results, write_lines(tmp_path / "two.jsonl", [rows[0], rows[1] | {"step": 9}])
    )
    cut = refusal(read_results, write_lines(tmp_path / "cut.jsonl", rows[:5]))
    assert "stands 1 times, others 2 times" in cut and "line 3" in cut
    assert "line 1: output = 5" in refusal(read_results, write_lines(tmp_path / "x.jsonl", [rows[0] | {"output": 5}]))


def test_results_of_nemo_evaluator(tmp_path: Path, refusal: Callable[..., str]) -> None:
    file = nemo(tmp_path / "run" / "results.jsonl", [1.0, 0.0, 0.5], repeats=2)
    bundle = tmp_path / "run" / "eval-20261129T100000Z-sums.json"
    bundle.write_text('{"benchmark": {"name": "sums"}, "version": "0.3"}')
    read = read_results(file.parent)
    assert (read.task, read.tool, read.metrics) == ("sums", "nemo 0.3", ("reward",)) and len(read.files) == 2
    assert [(row.seed, row.cluster) for row in read.rows[:3]] == [(0, "even"), (1, "even"), (0, "odd")]
    assert read_results(bundle).rows == read.rows
    rows = lines(file)
    for number, (edit, said) in enumerate(
        [
            ({"reward": "good"}, "line 1: reward = 'good'"),
            ({"problem_idx": True}, "line 1: problem_idx = True"),
            ({"repeat": -1}, "line 1: repeat = -1"),
            ({"repeat": 1}, "problem 0, repeat 1 stands on line 1 already"),
        ]
    ):
        other = write_lines(tmp_path / str(number) / "results.jsonl", [rows[0] | edit, *rows[1:]])
        assert said in refusal(read_results, other)


def test_a_log_of_openais_evals(tmp_path: Path, refusal: Callable[..., str]) -> None:
    read = read_results(openai(tmp_path / "log.jsonl", [True, False, True]))
    assert read.task == "sums.dev.v0" and read.means == {"correct": pytest.approx(2 / 3)}
    assert [row.values["correct"] for row in read.rows] == [1.0, 0.0, 1.0] and "0 + 1?" in read.rows[0].question
    assert "no final_report" in refusal(read_results, openai(tmp_path / "begun.jsonl", [True], ended=False))
    rows: list[dict[str, Any]] = lines(tmp_path / "log.jsonl")
    rows[3]["data"]["correct"] = "yes"
    assert "line 4: correct = 'yes'" in refusal(read_results, write_lines(tmp_path / "x.jsonl", rows))
    rows[3]["type"], rows[3]["data"] = "error", {"type": "Timeout"}
    assert read_results(write_lines(tmp_path / "failed.jsonl", rows)).rows[0].error


def test_what_openais_evals_wrote(tmp_path: Path, refusal: Callable[..., str]) -> None:
    """Two runs have the same key: the command, which names model and file, is no condition."""
    one, two = (read_results(EVALS / f"sums-{name}.jsonl") for name in "ab")
    assert one.conditions == two.conditions and "2022" in one.conditions.decoding
    assert [row.content for row in one.rows] == [row.content for row in two.rows]
    assert [row.values["correct"] for row in two.rows] == [1, 1, 0, 1, 0, 1, 1] and two.means["correct"] == 5 / 7
    assert {row.seed for row in one.rows} == {0}, "a question that the data holds twice is no repeat"
    assert (one.rows[0].reference, one.rows[0].text) == ("1", "1") and two.rows[2].text == "no idea"
    rows = lines(EVALS / "sums-a.jsonl")
    again = [row | {"event_id": 50 + n} for n, row in enumerate(rows) if row.get("type") == "match"]
    assert [row.seed for row in read_results(write_lines(tmp_path / "twice.jsonl", [*rows, *again])).rows[:2]] == [0, 1]
    assert "stands 2 times, others 1 times" in refusal(
        read_results, write_lines(tmp_path / "odd.jsonl", [*rows, again[0]])
    )


def test_a_match_and_metrics_are_one_answer(tmp_path: Path) -> None:
    file = EVALS / "fuzzy-b.jsonl"
    read = read_results(file)
    assert set(read.metrics) == {"correct", "accuracy", "f1_score"} and len(read.rows) == 7
    assert all(len(row.values) == 3 and row.seed == 0 for row in read.rows)
    for metric in ("correct", "accuracy"):
        import_results([file], tmp_path / metric, ImportOptions(metric=metric))


def test_what_nemo_evaluator_wrote(tmp_path: Path, refusal: Callable[..., str]) -> None:
    read = read_results(NEMO)
    assert (read.task, read.tool, read.metrics) == ("sums", "nemo byob", ("correct", "length")) and len(read.files) == 2
    assert [row.seed for row in read.rows] == [0] * 6 + [1] * 6 and read.means["correct"] == 0.8
    assert [row.error for row in read.rows[:6]] == [False] * 5 + [True] and read.rows[5].cluster == "odd"
    assert [row.content for row in read.rows[:6]] == [row.content for row in read.rows[6:]]
    rows = lines(NEMO / "sums/byob_predictions.jsonl")
    alone = write_lines(tmp_path / "alone" / "byob_predictions.jsonl", rows)
    assert read_results(alone).task == "alone" and not read_results(alone).means
    for number, (edit, said) in enumerate(
        [
            ({"status": "lost"}, "line 1: status = 'lost'"),
            ({"scores": None}, "line 1: scores = {}"),
            ({"scores": {"correct": float("nan")}}, "line 1: correct = nan"),
            ({"metadata": {"_repeat": -1}}, "line 1: _repeat = -1"),
            ({"sample_id": 1}, "line 2: sample 1 stands on line 1 already"),
        ]
    ):
        edited = write_lines(tmp_path / str(number) / alone.name, [rows[0] | edit, *rows[1:]])
        assert said in refusal(read_results, edited)


def test_missing_and_edited_predictions_are_seen(tmp_path: Path, refusal: Callable[..., str]) -> None:
    rows = [row for row in lines(NEMO / "sums/byob_predictions.jsonl") if row["status"] == "scored"]
    results = (NEMO / "sums/byob_results.json").read_text()
    file = write_lines(tmp_path / "run" / "byob_predictions.jsonl", rows)
    (file.parent / "byob_results.json").write_text(results)
    import_results([file], tmp_path / "sound", ImportOptions(metric="correct"))
    write_lines(file, rows[1:])
    assert "it states 10 samples with correct, and byob_predictions.jsonl holds 9" in refusal(read_results, file)
    write_lines(file, [rows[0] | {"scores": rows[2]["scores"]}, *rows[1:]])
    assert "correct is 0.700000 over its 10 answers, and 0.800000" in refusal(
        import_results, [file], tmp_path / "edited", ImportOptions(metric="correct")
    )
    (file.parent / "byob_results.json").write_text('{"tasks": []}')
    assert "results of NeMo Evaluator hold one benchmark" in refusal(read_results, file)
