"""The page of several tasks: every run and every verdict is on it, also those that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.gates.policy import GatePolicy
from harness.gates.tasks import gate_tasks
from harness.reports.page import Table
from harness.reports.pages import build_page, usual_page
from harness.reports.render.markdown import markdown
from harness.reports.tasks_page import NOT_THERE, gate_tasks_page, stored_page, tasks_page, tasks_report, write_tasks
from harness.runs.loaded import load_run
from harness.runs.several import begin_tasks
from harness.testing import make_arm
from harness.testing.runs import RunMaker

pytestmark = pytest.mark.unit


@pytest.fixture
def out(tmp_path: Path, make_run: RunMaker) -> Path:
    folders = begin_tasks(tmp_path / "runs", ["arith", "svamp"])
    make_run(folders["arith"], {0.0: [[1], [1]], 0.05: [[1, 0], [1, 1]]})
    return tmp_path / "runs"


def test_every_level_of_every_task_has_a_row_also_what_is_not_there(out: Path) -> None:
    page = stored_page(out)
    (table,) = (part for part in page.parts if isinstance(part, Table))
    assert [row[:2] for row in table.rows] == [("arith", "0 %"), ("arith", "5 %"), ("svamp", NOT_THERE)]
    assert usual_page(out) == "tasks" and build_page("tasks", out) == page
    assert "arith, certificate: certified" in markdown(page)


def test_reports_are_written_beside_the_runs_and_of_each(out: Path) -> None:
    report = tasks_report(out, {"arith": load_run(out / "arith")})
    write_tasks(out, report)
    assert json.loads((out / "report.json").read_text())["tasks"]["arith"]["kind"] == "evaluation"
    assert "arith" in (out / "report.md").read_text() and (out / "arith" / "report.md").is_file()


def test_a_gate_shows_the_verdict_of_each_task_the_whole_and_what_is_missing(out: Path) -> None:
    arm = make_arm({0.0: [1] * 90 + [0] * 10})
    policy = GatePolicy(margin=0.1, positive_control=False, bootstrap_resamples=0)
    found = gate_tasks({"arith": (arm, arm)}, policy, missing={"svamp": "there is no run of it"}).to_json()
    page = gate_tasks_page(found)
    (table,) = (part for part in page.parts if isinstance(part, Table))
    assert [row[:3] for row in table.rows] == [("arith", "0 %", "PASS"), ("svamp", "-", "INVALID")]
    assert page.verdict is not None and page.verdict.word == "INVALID" and "2 tasks" in page.verdict.family
    text = markdown(tasks_page(tasks_report(out, {"arith": load_run(out / "arith"), "svamp": None}, found)))
    assert "svamp: there is no run of it" in text and "INVALID" in text and NOT_THERE in text
    nothing = gate_tasks_page(gate_tasks({}, policy, missing={"a": "no run"}).to_json())
    assert nothing.verdict is not None and nothing.verdict.word == "INVALID"
