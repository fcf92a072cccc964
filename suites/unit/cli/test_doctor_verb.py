"""``harness doctor``: what it finds, what it prints, and when it is no success."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from harness.cli import doctoring
from harness.cli.doctoring import BROKEN, MISSING, WORKS, Finding
from harness.reports.calibration_tables import coverage_rows, early_rows, gate_rows, problem_lines, summary_rows

pytestmark = pytest.mark.contract
Verb = Callable[..., Any]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration of a few seconds at most: the first cells of every stage."""

    def few(thorough: bool) -> Any:
        from harness.gates.calibration import gate_cases, run_cases
        from harness.stats.calibration import FAST, Stage, coverage_stages, run_stage
        from harness.stats.coverage_sequential import EarlyCase, simulate_early

        effort = replace(FAST, tables=50, matrices=20, bootstraps=10, resamples=50)
        stages = [Stage(stage.name, stage.cells[:1]) for stage in coverage_stages(effort)]
        cases = [(case, 20) for case, _ in gate_cases()[:2]]
        return {
            "coverage": [
                doctoring._Job(stage.name, 1, lambda advance, stage=stage: run_stage(stage, advance))
                for stage in stages
            ],
            "gate": [doctoring._Job("gate", 2, lambda advance: run_cases(cases, advance))],
            "early": [doctoring._Job("early", 1, lambda advance: [simulate_early(EarlyCase(0.08, n=300), 10)])],
        }

    monkeypatch.setattr(doctoring, "_jobs", few)


def test_everything_needed_works_here(cli: Verb) -> None:
    said = cli("doctor")
    assert said.code == 0
    for words in ("torch", "transformers", "C compiler", "noise kernel", "quantizer kernel", "accelerator", "vllm"):
        assert words in said.out
    assert said.out.strip().endswith("everything that is needed works")


def test_the_findings_are_one_json_object(cli: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("torch", BROKEN, "ImportError: no", needed=True)
    absent = Finding("vllm", MISSING, "only needed for the vllm engine")
    monkeypatch.setattr(doctoring, "examine", lambda: (Finding("numpy", WORKS, "2", needed=True), absent))
    found = cli("doctor", "--json")
    assert (found.code, found.json["sound"]) == (0, True)
    monkeypatch.setattr(doctoring, "examine", lambda: (broken, absent))
    found = cli("doctor", "--json")
    assert (found.code, found.json["sound"]) == (2, False)
    assert found.json["findings"][0] == {
        "part": "torch",
        "state": "broken",
        "detail": "ImportError: no",
        "needed": True,
    }
    said = cli("doctor")
    assert said.code == 2
    assert "needed and not working: torch" in said.out


def test_what_cannot_be_imported_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'x'") if name == "rich" else OSError("libfoo.so\nsecond line")

    assert doctoring._package("numpy").state == WORKS
    monkeypatch.setattr(importlib, "import_module", fail)
    assert doctoring._package("rich").state == MISSING
    assert doctoring._package("torch") == Finding("torch", BROKEN, "OSError: libfoo.so", needed=True)
    assert not doctoring._package("torch").sound


def test_kernels_that_fail_are_said_and_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.numerics import native

    monkeypatch.setattr(native, "available", lambda dtype: False)
    assert doctoring._noise_kernel().state == MISSING

    def raises() -> Finding:
        raise RuntimeError("driver")

    assert doctoring._guarded("accelerator", raises) == Finding("accelerator", BROKEN, "RuntimeError: driver")
    assert not doctoring._guarded("statistics", raises).sound
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(doctoring.shutil, "which", lambda name: None)
    assert doctoring._compiler().state == MISSING


def test_statistics_that_decide_too_easily_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import harness.stats

    assert doctoring._statistics().state == WORKS
    monkeypatch.setattr(harness.stats, "tango", lambda lost, gained, n: harness.stats.Interval(0.0, 0.0, 0.0))
    assert doctoring._statistics().state == BROKEN


def test_calibrate_prints_its_tables_its_cost_and_its_state(cli: Verb, small: None) -> None:
    said = cli("doctor", "--calibrate")
    assert said.code == 0
    assert said.err.startswith("calibration: 8 settings, about a minute on one core")
    for words in ("Coverage of intervals of nominal 95 %: pairs", "Tango", "lowest", "predicted", "true drop"):
        assert words in said.out
    assert "everything holds" in said.out.splitlines()[-1]
    assert "simulated range" in cli("doctor", "--calibrate", "--cells").out


def test_calibrate_as_json_repeats(cli: Verb, small: None) -> None:
    first, second = (cli("doctor", "--calibrate", "--json").json for _ in range(2))
    assert first.pop("seconds") > 0 < second.pop("seconds")
    assert first == second
    assert first["effort"] == "fast"
    assert {stage["name"] for stage in first["coverage"]} >= {"pairs", "bootstraps", "noise seeds"}
    assert first["gate"][0]["predicted"]["passing"] == pytest.approx(0.798, abs=0.001)


def test_a_broken_promise_is_no_success(cli: Verb, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.stats import coverage_binary
    from harness.stats.interval import Interval

    monkeypatch.setattr(coverage_binary, "wilson", lambda k, n, alpha: Interval(k / n, k / n, k / n))
    said = cli("doctor", "--calibrate")
    assert said.code == 2
    assert "Wilson at n 10, accuracy 0.02, one draw: coverage" in said.out
    assert "do not trust verdicts made here" in said.out


@pytest.mark.parametrize("option", ["--thorough", "--cells"])
def test_options_of_the_calibration_need_it(cli: Verb, option: str) -> None:
    said = cli("doctor", option)
    assert said.code == 2
    assert f"{option}; it belongs to --calibrate; add --calibrate" in said.line


def test_a_pipe_gets_a_line_now_and_then(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctoring, "SECONDS_BETWEEN_LINES", -1)
    console = Console(file=io.StringIO(), width=200)
    assert doctoring.calibration_report(False, console)["holds"]
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "pairs: 1 of 1" in text
    assert "gate: 2 of 2" in text


def test_rows_of_what_does_not_hold() -> None:
    share = {"estimate": 0.9, "low": 0.88, "high": 0.92}
    cell = {
        **{"interval": "Tango", "n": 50, "accuracy": None, "spread": "x", "coverage": share, "repetitions": 100},
        **{"pinned": [0.94, 0.97], "shown_failing": False, "holds": False},
    }
    shown = {**cell, "interval": "Wald", "shown_failing": True, "holds": True}
    rows = coverage_rows([cell, shown])
    assert rows[0][-2:] == ("94.0 % to 97.0 %", "BROKEN")
    assert rows[1][-2:] == ("-", "too narrow")
    assert [row[-1] for row in summary_rows([cell, shown, cell])] == ["BROKEN", "too narrow"]
    verdicts = dict.fromkeys(("PASS", "INCONCLUSIVE", "FAIL"), share)
    case = {
        **{"name": "A/A", "n": 200, "discordance": 0.1, "observed": verdicts, "predicted": None},
        **{"repetitions": 10, "problems": ["too often"]},
    }
    assert [row[-2:] for row in gate_rows([case])] == [("-", "BROKEN")] * 3
    early = {
        **{"drop": 0.03, "margin": 0.03, "n": 100, "mean_items": 50.4, "saved": 0.496, "stopped": share},
        **{"decided": {"within": share, "beyond": {**share, "estimate": 0.02}}, "problems": ["wrong"]},
    }
    assert early_rows([early])[0][4:] == ("90.0 %", "50 of 100", "49.6 %", "BROKEN")
    report = {"coverage": [{"name": "s", "cells": [cell, shown]}], "gate": [case], "early_stopping": [early]}
    assert len(problem_lines(report)) == 3


def test_the_calibration_loads_no_torch() -> None:
    code = (
        "import sys, harness.stats.calibration, harness.gates.calibration, harness.stats.coverage_sequential,"
        " harness.reports.calibration_tables, harness.cli.doctor_verb; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
