"""Completions produced elsewhere become a run that says so wherever it appears."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.answers import RULE
from harness.evaluate.external import score_completions
from harness.evaluate.tasks import Item, load_task
from harness.exceptions import HarnessError, StoreError
from harness.gates import INVALID, PASS, gate
from harness.record import EXTERNAL
from harness.reports.run_report import run_report, write_reports
from harness.runs.loaded import Run, complete_run

pytestmark = pytest.mark.unit
BOTH_RIGHT = {"strict": 1.0, "flexible": 1.0}

GSM8K = Path(__file__).resolve().parents[4] / "shared" / "data" / "gsm8k" / "test.jsonl"
ITEMS = load_task("arith").items()[:30]


def write(path: Path, items: Iterable[Item], **fields: Any) -> Path:
    """The gold solution of every item, one line each."""
    rows = [{"completion": item.solution, "item": item.key} | fields for item in items]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    score_completions("arith", None, None, write(tmp_path / "c.jsonl", ITEMS), tmp_path / "run")
    return complete_run(tmp_path / "run")


def test_gold_solutions_are_all_right(run: Run) -> None:
    assert {(r.item, r.level, r.seed) for r in run.results} == {(item.key, 0.0, 0) for item in ITEMS}
    assert all((r.score, r.scores, r.reason) == (1.0, BOTH_RIGHT, "right") for r in run.results)
    assert {r.item: r.answer for r in run.results} == {item.key: item.reference for item in ITEMS}
    assert {r.item: r.text for r in run.results} == {item.key: item.solution for item in ITEMS}
    assert run.arm.questions == {item.key: item.question for item in ITEMS}
    assert run.manifest.kind == "external"


def test_every_real_gold_solution_of_gsm8k_is_right(tmp_path: Path) -> None:
    if not GSM8K.is_file():
        pytest.skip(f"{GSM8K} is not there")
    items = load_task("gsm8k", GSM8K).items()
    path = write(tmp_path / "c.jsonl", items)
    score_completions("gsm8k", str(GSM8K), None, path, tmp_path / "run")
    run = complete_run(tmp_path / "run")
    assert len(run.results) == len(items) == 1319
    assert all((r.scores, r.reason) == (BOTH_RIGHT, "right") for r in run.results)


def test_every_kind_of_answer_keeps_its_reason(tmp_path: Path) -> None:
    texts = [ITEMS[0].solution, "#### -1", "I do not know", ITEMS[3].solution]
    rows = [{"completion": text, "item": item.key} for text, item in zip(texts, ITEMS, strict=False)]
    rows[3]["truncated"] = True  # type: ignore[assignment]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_completions("arith", None, "flexible", tmp_path / "c.jsonl", tmp_path / "run")
    found = {result.item: result for result in complete_run(tmp_path / "run").results}
    assert [found[item.key].reason for item in ITEMS[:4]] == ["right", "wrong", "unparsed", "truncated"]
    assert [found[item.key].score for item in ITEMS[:4]] == [1.0, 0.0, None, None]


def test_scoring_again_changes_nothing(tmp_path: Path, run: Run) -> None:
    before = {entry.name: entry.read_bytes() for entry in run.path.iterdir()}
    score_completions("arith", None, None, tmp_path / "c.jsonl", run.path)
    assert {entry.name: entry.read_bytes() for entry in run.path.iterdir()} == before


def test_other_completions_and_another_scorer_need_another_folder(
    tmp_path: Path, run: Run, refusal: Callable[..., str]
) -> None:
    other = write(tmp_path / "other.jsonl", ITEMS[:5])
    text = refusal(score_completions, "arith", None, None, other, run.path, kind=StoreError)
    assert "another evaluation: completions (" in text
    text = refusal(score_completions, "arith", None, "flexible", tmp_path / "c.jsonl", run.path, kind=StoreError)
    assert "scorer (strict there, flexible now)" in text
    assert len(complete_run(run.path).results) == len(ITEMS)


def test_a_bad_line_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", ITEMS)
    path.write_text(path.read_text() + '{"completion": "x", "item": "unknown"}\n')
    with pytest.raises(HarnessError, match=r"c.jsonl, line 31: item 'unknown' is not in the task arith"):
        score_completions("arith", None, None, path, tmp_path / "run")
    with pytest.raises(HarnessError, match="did you mean 'strict'"):
        score_completions("arith", None, "strct", path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_key_says_what_is_unknown(run: Run) -> None:
    task = load_task("arith")
    known = {"task": "arith", "dataset": task.dataset_hash(), "scorer": "strict", "scorer_rule": RULE}
    known |= {"engine": "external"}
    unknown = (
        *("template", "dtype", "attention", "quantization", "aqn"),
        *("noise", "decoding", "max_new_tokens", "coverage"),
    )
    assert run.arm.key == known | dict.fromkeys(unknown, "unknown")


def test_external_uncertified_stands_in_every_report(run: Run) -> None:
    assert run.arm.certificate.status == EXTERNAL == "external, uncertified"
    report = run_report(run)
    write_reports(run.path, report)
    text = (run.path / "report.md").read_text()
    assert text.splitlines()[0].endswith("(external, uncertified)")
    assert "certificate: external, uncertified" in text
    assert json.loads((run.path / "report.json").read_text()) == json.loads(json.dumps(report))
    assert (report["kind"], report["certificate"]["status"]) == ("external", "external, uncertified")
    assert report["ledger"] == []


def test_level_zero_may_be_compared_and_a_noisy_level_is_invalid(tmp_path: Path) -> None:
    rows = [
        {"completion": item.solution, "item": item.key, "level": level, "seed": seed}
        for item in ITEMS
        for level, seeds in ((0, 1), (0.05, 2))
        for seed in range(seeds)
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_completions("arith", None, None, tmp_path / "c.jsonl", tmp_path / "run")
    arm = complete_run(tmp_path / "run").arm
    assert len(arm.outcomes[0.05][ITEMS[0].key]) == 2
    found = {level.level: level for level in gate(arm, arm).levels}
    assert found[0.0].verdict != INVALID
    assert "external, uncertified" in " ".join(found[0.0].reasons)
    assert found[0.05].verdict == INVALID
    assert "nothing proves that noise was on at level 0.05" in " ".join(found[0.05].reasons)
    assert gate(arm, arm).verdict != PASS
