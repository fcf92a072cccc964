"""The tables of groups: as many rows as are read, the rest counted, marked as descriptive."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.gates.policy import GatePolicy
from harness.gates.subscores import SubScores, subscores
from harness.reports.page import Table
from harness.reports.render.terminal import show
from harness.reports.run_page import run_page
from harness.reports.run_report import run_report
from harness.reports.subscore_tables import SHOWN, subscore_tables
from harness.runs.loaded import load_run
from harness.testing import make_arm
from harness.testing.runs import RunMaker

pytestmark = pytest.mark.unit


def tables(found: SubScores) -> list[Table]:
    return [part for part in subscore_tables(found.to_json()) if isinstance(part, Table)]


def test_the_rest_is_counted_and_every_table_says_that_it_decides_nothing() -> None:
    count = SHOWN + 3
    groups = {f"i{n:04d}": f"g{n // 5:02d}" if n < 5 * count else "few" for n in range(5 * count + 2)}
    arm = replace(make_arm({0.0: [1] * len(groups), 0.1: [[1, 0]] * len(groups)}), groups=groups)
    clean, noisy = tables(subscores(arm, make_arm({0.0: [1] * len(groups), 0.1: [[1, 1]] * len(groups)})))
    assert len(clean.rows) == len(noisy.rows) == SHOWN and clean.detail and not noisy.detail
    for table in (clean, noisy):
        assert "no verdict rests on it" in table.title and "not adjusted" in table.legend
        assert "3 more groups" in table.legend and "1 groups of fewer than 5 items" in table.legend
    assert noisy.rows[0][-1].startswith("-50.0 [") and noisy.rows[0][:2] == ("g00", "5")
    assert tables(SubScores()) == []


def test_they_stand_in_the_report_of_a_run_that_has_groups(
    tmp_path_factory: pytest.TempPathFactory, make_run: RunMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_run(tmp_path_factory.mktemp("run") / "run", {0.0: [[1]] * 7 + [[0]] * 5, 0.05: [[1, 1]] * 12})
    run = load_run(path)
    bare = run_report(run)
    assert bare["subscores"]["groups"] == []
    grouped = replace(run, arm=replace(run.arm, groups={f"i{n}": "early" if n < 6 else "late" for n in range(12)}))
    show(run_page(run_report(grouped)))
    said = capsys.readouterr().out
    assert "Groups at 5 % (descriptive" in said and "early" in said and "Groups at 0 %" not in said
    assert GatePolicy().alpha == run_report(grouped)["subscores"]["alpha"]
