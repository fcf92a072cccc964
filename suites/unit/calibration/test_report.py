"""``harness doctor --calibrate``: what it prints, and when a promise is not kept."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from harness.calibration import report as calibration
from harness.reports import progress
from harness.reports.calibration_page import (
    coverage_rows,
    early_rows,
    error_rows,
    gate_rows,
    problem_lines,
    summary_rows,
)

pytestmark = pytest.mark.long
Verb = Callable[..., Any]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration of a few seconds at most: the first cells of every stage."""

    def few(thorough: bool) -> Any:
        from harness.calibration.distributions import distribution_cases, run_distributions
        from harness.calibration.early import EarlyCase, simulate_early
        from harness.calibration.errors import error_jobs, run_errors
        from harness.calibration.gates import gate_cases, run_cases
        from harness.calibration.intervals import FAST, Stage, coverage_stages, run_stage

        effort = replace(FAST, tables=50, matrices=20, bootstraps=10, resamples=50)
        stages = [Stage(stage.name, stage.cells[:1]) for stage in coverage_stages(effort)]
        cases = [(case, 20) for case, _ in gate_cases()[:2]]
        lying = [(case, 2) for case, _ in distribution_cases()[:1]]
        return {
            "coverage": [
                calibration._Job(stage.name, 1, lambda advance, stage=stage: run_stage(stage, advance))
                for stage in stages
            ],
            "gate": [calibration._Job("gate", 2, lambda advance: run_cases(cases, advance))],
            "early": [calibration._Job("early", 1, lambda advance: [simulate_early(EarlyCase(0.08, n=300), 10)])],
            "errors": [calibration._Job("errors", 1, lambda advance: run_errors(error_jobs()[:1], advance))],
            "distributions": [calibration._Job("distributions", 1, lambda advance: run_distributions(lying, advance))],
        }

    monkeypatch.setattr(calibration, "_jobs", few)


def test_calibrate_prints_its_tables_its_cost_and_its_state(cli: Verb, small: None) -> None:
    said = cli("doctor", "--calibrate")
    assert said.code == 0
    assert said.err.startswith("calibration: 10 settings, about a minute on one core")
    for words in (
        "Coverage of intervals of nominal 95 %: pairs",
        "Tango",
        "lowest",
        "predicted",
        "true drop",
        "lost whole",
        "Gate on distributions",
    ):
        assert words in said.out
    assert "everything holds" in said.out.splitlines()[-1]
    assert "simulated range" in cli("doctor", "--calibrate", "--cells").out


def test_calibrate_as_json_repeats(cli: Verb, small: None) -> None:
    first, second = (cli("doctor", "--calibrate", "--json").json for _ in range(2))
    assert first.pop("seconds") > 0 < second.pop("seconds")
    assert first == second
    assert first["effort"] == "fast"
    assert {stage["name"] for stage in first["coverage"]} >= {"pairs", "bootstraps", "noise seeds"}
    assert first["errors"][0]["other_passing"] > 0.11 > first["errors"][0]["passing"]
    assert first["gate"][0]["predicted"]["passing"] == pytest.approx(0.798, abs=0.001)


def test_a_broken_promise_is_no_success(cli: Verb, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.calibration import binary
    from harness.stats.interval import Interval

    monkeypatch.setattr(binary, "wilson", lambda k, n, alpha: Interval(k / n, k / n, k / n))
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
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1)
    console = Console(file=io.StringIO(), width=200)
    with progress.shown(console) as watcher:
        assert calibration.calibration_report(False, watcher)["holds"]
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
    wrong = {
        **{"name": "lost whole", "n": 200, "margin": 0.03, "passing": None, "failing": 0.2, "other": "t alone"},
        **{"other_passing": None, "other_failing": 0.1, "problems": ["wrong FAIL"]},
    }
    assert error_rows([wrong])[0][3:] == ("-", "20.0 %", "t alone", "-", "10.0 %", "BROKEN")
    assert early_rows([early])[0][4:] == ("90.0 %", "50 of 100", "49.6 %", "BROKEN")
    report = {
        "coverage": [{"name": "s", "cells": [cell, shown]}],
        "gate": [case],
        "early_stopping": [early],
        "errors": [wrong],
        "distributions": [{"name": "A/A", "n": 64, "problems": ["wrong FAIL 0.2000, at most 0.05"]}],
    }
    assert len(problem_lines(report)) == 5


def test_the_calibration_loads_no_torch() -> None:
    code = (
        "import sys, harness.calibration.intervals, harness.calibration.gates, harness.calibration.early,"
        " harness.reports.calibration_page, harness.cli.doctor_verb,"
        " harness.calibration.report; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
