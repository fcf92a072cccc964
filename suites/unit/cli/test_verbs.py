"""The verbs end to end: score, accept, gate with each of its four verdicts; eval with resuming and Ctrl-C."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.tasks import load_task
from harness.runs.loaded import load_run

pytestmark = pytest.mark.long

Verb = Callable[..., Any]
ITEMS = load_task("arith").items()[:200]
TINY = ("--items", "2", "--noise-levels", "0,0.05", "--noise-seeds", "1", "--max-new-tokens", "4", "--device", "cpu")
RECORDS = 4


def completions(path: Path, wrong: int, **fields: Any) -> Path:
    """The gold solutions, the first ``wrong`` of them with another answer."""
    rows = [
        {"completion": "#### -1" if index < wrong else item.solution, "question": item.question} | fields
        for index, item in enumerate(ITEMS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def scored(cli: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A working directory with the baseline ``gold``; scores a run with some wrong answers into it."""
    monkeypatch.chdir(tmp_path)

    def score(name: str, wrong: int, *options: str, **fields: Any) -> Path:
        file = completions(tmp_path / f"{name}.jsonl", wrong, **fields)
        said = cli("score", "--task", "arith", "--completions", file, "--out", name, *options)
        assert (said.code, said.err) == (0, ""), said.err
        return Path(name)

    score("gold", 0)
    assert cli("baseline", "accept", "gold", "--name", "gold", "--reason", "gold solutions").code == 0
    return score


@pytest.mark.parametrize(
    ("wrong", "verdict", "code", "words"),
    [
        (0, "PASS", 0, "lies above -3.00"),
        (40, "FAIL", 1, "lies below -3.00"),
        (5, "INCONCLUSIVE", 3, "items would decide"),
    ],
)
def test_the_gate_decides_on_external_completions(
    cli: Verb, scored: Callable[..., Path], wrong: int, verdict: str, code: int, words: str
) -> None:
    run = scored("run", wrong)
    said = cli("gate", run, "--baseline", "gold", "--margin", 0.03, "--json")
    found = said.json
    assert (said.code, found["exit_code"], found["verdict"]) == (code, code, verdict)
    assert {"verdict", "exit_code", "reasons", "levels", "certificate", "baseline"} <= set(found)
    (level,) = found["levels"]
    documented = {"level", "verdict", "n", "accuracy", "difference", "retention", "bootstrap", "flips", "items_needed"}
    assert documented <= set(level)
    assert (level["level"], level["n"], level["flips"]) == (0.0, 200, {"lost": wrong, "gained": 0})
    for interval in ("accuracy", "difference", "bootstrap"):
        assert {"estimate", "low", "high"} <= set(level[interval])
    assert level["difference"]["estimate"] == pytest.approx(-wrong / 200)
    assert (level["items_needed"] is not None) is (verdict == "INCONCLUSIVE")
    assert words in " ".join(level["reasons"])
    assert found["certificate"]["status"] == found["baseline"]["status"] == "external, uncertified"
    shown = cli("gate", run, "--baseline", "gold", "--margin", 0.03)
    assert shown.code == code
    assert f"verdict: {verdict}" in shown.out and words in shown.out and "external, uncertified" in shown.out
    assert f"**{verdict}** against baseline gold" in (run / "report.md").read_text()
    assert json.loads((run / "report.json").read_text())["gate"]["verdict"] == verdict


@pytest.mark.parametrize(
    ("options", "fields", "words"),
    [
        (("--scorer", "flexible"), {}, "measurement keys differ in scorer: candidate 'flexible', baseline 'strict'"),
        ((), {"level": 0.05}, "candidate: no outcomes at level 0"),
    ],
)
def test_what_may_not_be_compared_is_invalid(
    cli: Verb, scored: Callable[..., Path], options: Any, fields: Any, words: str
) -> None:
    said = cli("gate", scored("run", 0, *options, **fields), "--baseline", "gold", "--json")
    assert (said.code, said.json["verdict"]) == (4, "INVALID")
    assert words in " ".join(said.json["reasons"])


def test_ten_items_are_too_few_to_pass(cli: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"{__name__}.ITEMS", ITEMS[:10])
    cli("score", "--completions", completions(Path("c.jsonl"), 0), "--out", "run")
    cli("baseline", "accept", "run", "--name", "ten", "--reason", "r")
    said = cli("gate", "run", "--baseline", "ten", "--margin", "0.015", "--json")
    assert (said.code, said.json["verdict"]) == (3, "INCONCLUSIVE")


def test_an_external_baseline_cannot_be_repeated(cli: Verb, scored: Callable[..., Path], tiny: Path) -> None:
    said = cli("gate", tiny, "--baseline", "gold")
    assert said.code == 4
    assert "baseline gold is external, uncertified" in said.line


def test_score_says_what_it_scored(cli: Verb, scored: Callable[..., Path]) -> None:
    scored("run", 50)
    report = cli("score", "--completions", "run.jsonl", "--out", "run", "--json").json
    (level,) = report["levels"]
    assert (level["n"], level["accuracy"]["estimate"], report["kind"]) == (200, 0.75, "external")
    said = cli("score", "--completions", "run.jsonl", "--out", "run")
    assert (
        "75.0 [" in said.out
        and "certificate: external, uncertified" in said.out
        and "report: run/report.md" in said.out
    )


def test_eval_runs_reports_and_resumes_to_nothing(
    cli: Verb, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    said = cli("eval", tiny, "--out", run, *TINY, "--json")
    assert said.code == 0
    report = said.json
    assert [(level["level"], level["draws"]) for level in report["levels"]] == [(0.0, 2), (0.05, 2)]
    assert report["certificate"]["status"] == "certified"
    assert "4 of 4 generations to do: 2 items x 2 levels" in said.err
    assert "minimum detectable effect" in said.err and "percentage points" in said.err
    again = cli("eval", tiny, "--out", run, *TINY, "--ledger")
    assert (again.code, again.err) == (0, "")
    assert "Ledger by site" in again.out and "model.layers.0.mlp.down_proj" in again.out
    assert f"report: {run / 'report.md'}" in again.out


def test_a_run_folder_of_another_checkpoint_or_specification_is_one_line(
    cli: Verb, tiny: Path, arith: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert cli("eval", tiny, "--out", run, *TINY).code == 0
    for arguments, words in (
        ((arith, "--out", run, *TINY), "weights ("),
        ((tiny, "--out", run, *TINY, "--noise-seeds", "2"), "noise_seeds (1 there, 2 now)"),
        ((tiny, "--out", run, *TINY, "--items", "3"), "items (2 there, 3 now)"),
        ((tiny, "--out", run, *TINY, "--max-new-tokens", "5"), "max_new_tokens (4 there, 5 now)"),
    ):
        said = cli("eval", *arguments)
        assert (said.code, said.out) == (2, "")
        assert words in said.line and "use another --out" in said.line


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/run"])
def test_an_output_folder_that_cannot_be_written_is_one_line(cli: Verb, tiny: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    said = cli("eval", tiny, "--out", tmp_path / place, *TINY)
    assert said.code == 2
    assert "cannot be written" in said.line


def test_a_damaged_run_folder_is_one_line(cli: Verb, tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    cli("eval", tiny, "--out", run, *TINY)
    (run / "records.sqlite").write_bytes((run / "records.sqlite").read_bytes()[:5000])
    said = cli("eval", tiny, "--out", run, *TINY)
    assert said.code == 2
    assert "SQLite says" in said.line


def test_ctrl_c_keeps_what_is_finished(cli: Verb, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.engines import transformers as module

    real, calls = module.generate, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:  # the probe, the first batch, the second
            raise KeyboardInterrupt
        return real(*arguments)

    run = tmp_path / "run"
    monkeypatch.setattr(module, "generate", interrupted)
    said = cli("eval", tiny, "--out", run, *TINY, "--batch-size", "1")
    assert said.code == 130
    assert said.err.splitlines()[-1] == "harness: stopped; what was finished is kept, the same command resumes"
    assert "Traceback" not in said.err
    assert load_run(run).missing == RECORDS - 1
    judged = cli("gate", run, "--baseline", "none")
    assert judged.code == 2
    assert cli("eval", tiny, "--out", run, *TINY).code == 0
    assert load_run(run).complete


def test_out_of_memory_is_one_line(cli: Verb, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nmore")

    monkeypatch.setattr("harness.engines.transformers.generate", fail)
    said = cli("eval", tiny, "--out", tmp_path / "run", *TINY, "--batch-size", "32")
    assert said.code == 2
    assert "--batch-size 32; out of memory" in said.line


def test_invalid_evidence_is_exit_4(cli: Verb, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.record import ControlResult

    failed = ControlResult(1.0, 2, 2, 2, 0, ("positive control: scale 1 left 2 of 2 right answers",))
    monkeypatch.setattr("harness.evaluate.run.judge_control", lambda *_: failed)
    said = cli("eval", tiny, "--out", tmp_path / "run", *TINY)
    assert said.code == 4
    assert "INVALID: positive control: scale 1 left 2 of 2" in said.out


def test_gate_evaluates_a_checkpoint_with_the_baselines_own_specification(
    cli: Verb, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("eval", tiny, "--out", "run", *TINY)
    refused = cli("baseline", "accept", "run", "--name", "tiny", "--reason", "r")
    assert refused.code == 4 and "is at the floor" in refused.line
    monkeypatch.setattr("harness.baselines.book.check_acceptable", lambda run: None)  # as older versions accepted it
    assert cli("baseline", "accept", "run", "--name", "tiny", "--reason", "r").code == 0
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    foregone = cli("gate", copy, "--baseline", "tiny", "--out", "gated", "--device", "cpu", "--json")
    assert (foregone.code, foregone.json["verdict"]) == (4, "INVALID") and not Path("gated").exists()
    assert "INVALID is foregone" in foregone.line and "at the floor" in foregone.line
    monkeypatch.setattr("harness.library.gate.announce", lambda *_, **__: None)  # evaluate it all the same
    said = cli("gate", copy, "--baseline", "tiny", "--out", "gated", "--device", "cpu", "--json")
    assert (said.code, said.json["verdict"]) == (4, "INVALID"), "random weights are at the floor"
    assert "at the floor" in " ".join(said.json["reasons"])
    assert said.json["certificate"]["status"] == "certified"
    assert load_run(Path("gated")).arm.outcomes == load_run(Path("run")).arm.outcomes
    again = cli("gate", copy, "--baseline", "tiny", "--out", "gated", "--device", "cpu")
    assert (again.code, again.err) == (4, "")
