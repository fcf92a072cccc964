"""Imported results are runs that say so: paired by content, gated at level 0, and never evidence of noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.imported.importing import ImportOptions, import_results
from harness.exceptions import HarnessError, NotComparableError, StoreError
from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, gate
from harness.record import EXTERNAL
from harness.runs.loaded import Run, complete_run
from suites.unit.conftest import Said
from suites.unit.evaluate.imported.written import (
    INSPECT,
    STRICT,
    copied,
    lines,
    lm_eval,
    nemo,
    samples,
    verl,
    write_lines,
)

pytestmark = pytest.mark.unit


def imported(out: Path, *files: Path, **options: Any) -> Run:
    import_results(files, out, ImportOptions(**options))
    return complete_run(out)


def test_a_real_run_of_lm_eval_says_where_it_is_from(tmp_path: Path) -> None:
    run = imported(tmp_path / "run", samples(), metric=STRICT)
    assert run.manifest.kind == "external" and run.arm.certificate.status == EXTERNAL
    (note,) = run.arm.certificate.notes
    assert f"its scores are {STRICT} as lm-eval 0.4.13 wrote" in note
    assert [result.score for result in run.results] == [1.0] * len(run.results) and len(run.results) == 6
    source = json.loads((run.path / "manifest.json").read_text())["imported"]["sources"][0]
    assert len(source["files"]) == 2 and source["facts"]["task_hash"] and source["facts"]["model"] == "arith-qwen2"
    key = run.arm.key
    assert key["task"] == "lm-eval:arith_tiny" and key["scorer"] == STRICT and key["dtype"] == "float32"
    assert key["scorer_rule"] == "lm-eval 0.4.13, task version 1.0"


def test_a_real_run_of_choices_is_read_again(tmp_path: Path) -> None:
    """lm-eval scored them by log-likelihoods, as an evaluation here may; the texts of its records are its own."""
    run = imported(tmp_path / "run", samples("choice_tiny"), metric="acc,none")
    assert run.arm.key["decoding"] == "log-likelihood" and run.results and all(result.text for result in run.results)
    assert gate(run.arm, run.arm).levels[0].n == len(run.results)


def test_importing_again_changes_nothing_and_other_files_are_another_run(tmp_path: Path) -> None:
    run = imported(tmp_path / "run", lm_eval(tmp_path / "a", [1, 0, 1]))
    before = {entry.name: entry.read_bytes() for entry in run.path.iterdir()}
    imported(run.path, lm_eval(tmp_path / "a", [1, 0, 1]))
    assert {entry.name: entry.read_bytes() for entry in run.path.iterdir()} == before
    with pytest.raises(StoreError):
        imported(run.path, lm_eval(tmp_path / "b", [1, 1, 1]))


def test_one_run_is_gated_against_another_item_by_item(tmp_path: Path) -> None:
    base = [1] * 180 + [0] * 20
    old = imported(tmp_path / "old", lm_eval(tmp_path / "a", base, "old"))
    same = imported(tmp_path / "same", lm_eval(tmp_path / "b", base, "new"))
    lost = imported(tmp_path / "lost", lm_eval(tmp_path / "c", [0] * 40 + base[40:], "worse"))
    found = gate(same.arm, old.arm)
    assert found.verdict == PASS and found.levels[0].n == 200
    assert gate(lost.arm, old.arm).verdict == FAIL
    few = imported(tmp_path / "few", lm_eval(tmp_path / "d", base[170:], "new"))
    assert gate(few.arm, few.arm).verdict == INCONCLUSIVE
    assert gate(few.arm, old.arm).verdict == INVALID  # another set of documents


def test_items_are_told_by_their_content_whatever_their_order(tmp_path: Path) -> None:
    file = lm_eval(tmp_path / "a", [1, 0, 1, 1])
    run = imported(tmp_path / "one", file)
    rows = lines(file)[::-1]
    write_lines(file, [row | {"doc_id": number} for number, row in enumerate(rows)])
    other = imported(tmp_path / "two", file)
    assert run.arm.outcomes == other.arm.outcomes and run.arm.key == other.arm.key


@pytest.mark.parametrize(("field", "value"), [("lm_eval_version", "0.5.0"), ("versions", {"sums": 2.0})])
def test_another_version_of_program_or_task_is_another_measurement(tmp_path: Path, field: str, value: object) -> None:
    run = imported(tmp_path / "one", lm_eval(tmp_path / "a", [1] * 50))
    file = lm_eval(tmp_path / "b", [1] * 50)
    (results,) = file.parent.glob("results_*")
    results.write_text(json.dumps(json.loads(results.read_text()) | {field: value}))
    found = gate(imported(tmp_path / "two", file).arm, run.arm)
    assert found.verdict == INVALID and "scorer_rule" in found.reasons[0]


def test_noise_elsewhere_is_never_proven(tmp_path: Path) -> None:
    run = imported(tmp_path / "noisy", lm_eval(tmp_path / "a", [1] * 180 + [0] * 20), level=0.05)
    assert set(run.arm.outcomes) == {0.05}
    found = gate(run.arm, run.arm)
    assert found.verdict == INVALID
    assert any("nothing proves that noise was on" in reason for level in found.levels for reason in level.reasons)


def test_epochs_and_files_are_seeds(tmp_path: Path) -> None:
    run = imported(tmp_path / "epochs", INSPECT / "a.json", metric="match")
    assert {len(seeds) for seeds in run.arm.outcomes[0.0].values()} == {2}
    both = imported(tmp_path / "both", lm_eval(tmp_path / "a", [1, 0]), lm_eval(tmp_path / "b", [1, 1]))
    assert sorted(result.seed for result in both.results) == [0, 0, 1, 1]
    with pytest.raises(HarnessError, match="its content is that of"):
        imported(tmp_path / "copy", lm_eval(tmp_path / "c", [1, 0]), lm_eval(tmp_path / "d", [1, 0]))
    with pytest.raises(NotComparableError, match="repeats of one evaluation"):
        imported(tmp_path / "mixed", INSPECT / "a.json", lm_eval(tmp_path / "e", [1]), metric="match")


def test_scores_between_need_a_bound(tmp_path: Path, refusal: Callable[..., str]) -> None:
    file = nemo(tmp_path / "results.jsonl", [1.0, 0.5, 0.0])
    text = refusal(imported, tmp_path / "run", file)
    assert "line 2: reward = 0.5" in text and "--at-least" in text and not (tmp_path / "run").exists()
    run = imported(tmp_path / "run", file, at_least=0.5)
    assert sorted(result.score or 0 for result in run.results) == [0.0, 1.0, 1.0]
    assert run.arm.key["scorer"] == "reward >= 0.5"
    assert set(run.arm.clusters.values()) == {"even", "odd"}
    negative = imported(tmp_path / "signed", verl(tmp_path / "1.jsonl", [1, -1]), at_least=1)
    assert sorted(result.score or 0 for result in negative.results) == [0.0, 1.0]


def test_a_mean_that_the_answers_do_not_have_is_refused(tmp_path: Path) -> None:
    file = copied(samples(), tmp_path / "copy")
    rows = lines(file)
    write_lines(file, [row | {"exact_match": 0.0} if row["doc_id"] == 0 else row for row in rows])
    with pytest.raises(HarnessError, match="by its own account") as caught:
        imported(tmp_path / "run", file, metric=STRICT)
    assert caught.value.exit_code == 2 and not (tmp_path / "run").exists()


def test_questions_that_the_data_has_twice_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = lm_eval(tmp_path / "a", [1, 0, 1])
    rows = lines(file)
    write_lines(file, [*rows[:2], rows[0] | {"doc_id": 2}])
    run = imported(tmp_path / "run", file)
    assert len(run.results) == 2 and "1 repeated questions dropped" in caplog.text


def test_an_edited_run_is_found(tmp_path: Path) -> None:
    run = imported(tmp_path / "run", lm_eval(tmp_path / "a", [1, 0, 1]))
    manifest = run.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("lm-eval 0.4.13", "lm-eval 0.4.14"))
    with pytest.raises(StoreError):
        complete_run(run.path)


def test_the_verb_imports_accepts_and_gates(tmp_path: Path, cli: Callable[..., Said]) -> None:
    base = [1] * 180 + [0] * 20
    old, new = lm_eval(tmp_path / "a", base, "old"), lm_eval(tmp_path / "b", base, "new")
    for name, file in (("old", old), ("new", new)):
        said = cli("import", file, "--out", tmp_path / name, "--json")
        assert said.code == 0 and said.json["kind"] == "external"
    book = tmp_path / "book"
    book.mkdir()
    options = ("--baselines-dir", book)
    assert cli("baseline", "accept", tmp_path / "old", "--name", "sums/m", "--reason", "first", *options).code == 0
    gated = cli("gate", tmp_path / "new", "--baseline", "sums/m", "--margin", "0.05", *options)
    assert gated.code == 0 and "PASS" in gated.out, gated.err
    wrong = cli("import", old, "--out", tmp_path / "x", "--metric", "exact_match")
    assert wrong.code == 2 and "exact_match,none" in wrong.line and not (tmp_path / "x").exists()
    assert cli("import", old, "--out", tmp_path / "x", "--level", "5").code == 2
    assert "what was asked" not in cli("replay", tmp_path / "new", "--item", "a", "--level", "0").line
