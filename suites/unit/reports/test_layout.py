"""Tables in every width: nothing is cut, what is the same everywhere is said once, and the ledger shows its columns."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.record import BACKWARD, SiteCount
from harness.reports.layout import WIDE, print_lines, print_table, stdout_console
from harness.reports.run_report import ledger_report
from harness.reports.tables import LEDGER_HEADER, SEEN_HEADER, ledger_rows, seen_rows, share_text

pytestmark = pytest.mark.long

HEADER = ("site", "way in", "elements of 16 tokens", "reason")
LONG = "a reason in so many words that it must be folded where the terminal is not wide enough for it"
ROWS = (
    ("model.layers.10.mlp.down_projection", "module", "1,234,567", LONG),
    ("[bold]odd[/bold]", "module", "89", "short"),
)


def shown(width: int, *arguments: Any, **named: Any) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    print_table(console, "A title", *arguments, **named)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [200, 120, 100, 80, 70, 60, 40])
def test_no_width_cuts_a_name_or_a_number(width: int) -> None:
    lines = shown(width, HEADER, ROWS)
    text = "\n".join(lines)
    assert "\u2026" not in text
    for cell in ("model.layers.10.mlp.down_projection", "[bold]odd[/bold]", "1,234,567", "89", "module", "short"):
        assert cell in text
    words = " ".join(text.replace("│", " ").replace("┃", " ").split())
    assert all(word in words for word in LONG.split())
    assert max(map(len, lines)) <= width


def test_the_steps_from_wide_to_narrow() -> None:
    wide, folded, fewer, stacked = (shown(width, HEADER, ROWS) for width in (200, 100, 80, 40))
    assert any(LONG in line for line in wide) and any("elements of 16 tokens" in line for line in wide)
    assert not any(LONG in line for line in folded) and any("way in" in line for line in folded)
    assert fewer[-1] == "in every row: way in module" and fewer[1].startswith("┏")
    assert stacked[:2] == ["A title", "site model.layers.10.mlp.down_projection"]
    assert stacked[-1] == "in every row: way in module"
    assert stacked[2].startswith("  elements of 16 tokens 1,234,567")


def test_the_least_needed_columns_go_first() -> None:
    header = ("level", "verdict", "difference pp", "much too much", "more", "most")
    rows = [
        (*("5 %", "PASS", "-1.0 [-3.0, +0.3]"), "x" * 30, "y" * 20, "12"),
        (*("10 %", "INCONCLUSIVE", "-2.0 [-5.0, +0.3]"), "z" * 30, "w" * 20, "13"),
    ]
    spare = ("most", "much too much", "more", "no such column")
    for width, gone in ((130, ""), (99, "most, much too much"), (61, "most, much too much, more")):
        lines = shown(width, header, rows, spare=spare)
        assert max(map(len, lines)) <= width and lines[1].startswith("┏")
        assert [line for line in lines if line.startswith("no room")] == ([f"no room for: {gone}"] if gone else [])
        text = "\n".join(lines)
        assert all(cell in text for row in rows for cell in row[:3])
    stacked = "\n".join(shown(40, header, rows, spare=spare))
    assert "level 10 %" in stacked and "z" * 30 in stacked and "no room" not in stacked


def test_a_total_stands_below_and_may_leave_cells_empty() -> None:
    total = ("all", "", "1,234,656", "")
    rows = [line for line in shown(200, HEADER, ROWS, total=total) if line.startswith(("│", "├"))]
    assert rows[-2].startswith("├") and rows[-1].split("│")[1].strip() == "all"
    assert "site all" in shown(40, HEADER, ROWS, total=total)
    assert "  elements of 16 tokens 1,234,656" in shown(40, HEADER, ROWS, total=total)


def test_numbers_stand_on_the_right() -> None:
    rows = [line for line in shown(200, HEADER, ROWS) if line.startswith("│")]
    assert "             1,234,567 │" in rows[0] and "                    89 │" in rows[1]


def test_an_empty_table_is_its_header() -> None:
    assert any("elements of 16 tokens" in line for line in shown(200, HEADER, ()))


def test_standard_output_is_as_wide_as_said(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "77")
    assert stdout_console().width == 77
    monkeypatch.delenv("COLUMNS")
    assert stdout_console().width == WIDE
    print_lines(stdout_console(), ["[b] " + "x" * 500])
    assert capsys.readouterr().out == "[b] " + "x" * 500 + "\n"


SHOW = """
import sys
from harness.cli.main import main
main(["plan", sys.argv[1], "--device", "cpu"])
"""


def test_a_table_for_a_reader_that_went_away_is_no_verdict(tiny: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen([sys.executable, "-c", SHOW, tiny], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


COUNT = SiteCount(
    site="layers.3.up",
    op="linear",
    level=0.05,
    layer=3,
    phase="rollout",
    process="here:7",
    calls=2,
    rows=10,
    elements=400,
    changed=399,
    nonzero=400,
    signal=4.0,
    error=0.01,
    relative=1.0,
)
GRADIENT = replace(COUNT, direction=BACKWARD, operand="weight", phase="", layer=None, calls=1, elements=50, changed=50)


def test_what_was_seen_has_all_its_columns() -> None:
    forward, backward = (dict(zip(SEEN_HEADER, row, strict=True)) for row in seen_rows([COUNT, GRADIENT]))
    assert forward == {
        **{"site": "layers.3.up", "level": "5 %", "operator": "linear", "layer": "3", "direction": "forward"},
        **{"phase": "rollout", "process": "here:7", "calls": "2", "token rows": "10", "elements": "400"},
        **{"changed %": "99.75", "dy/y RMS": "0.0500"},
    }
    assert backward["direction"] == "backward:weight"
    assert (backward["layer"], backward["phase"], backward["changed %"]) == ("-", "-", "100")


def test_sums_are_by_operator_and_direction() -> None:
    other = replace(COUNT, site="layers.4.up", layer=4, process="here:8", changed=0, relative=float("nan"))
    forward, backward = sorted(
        ledger_report([COUNT, GRADIENT, other]), key=lambda group: group["direction"] == BACKWARD
    )
    assert (forward["sites"], forward["calls"], forward["elements"], forward["layers"]) == (2, 4, 800, [3, 4])
    assert (backward["sites"], backward["calls"], backward["elements"], backward["layers"]) == (1, 1, 50, [])
    assert (forward["phases"], backward["phases"]) == (["rollout"], [])
    assert [entry["process"] for entry in forward["entries"]] == ["here:7", "here:8"]
    assert [entry["relative_rms"] for entry in forward["entries"]] == [pytest.approx(0.05), None]
    rows = [dict(zip(LEDGER_HEADER, row, strict=True)) for row in ledger_rows([forward, backward])]
    assert [(row["direction"], row["sites"], row["changed %"]) for row in rows] == [
        *(("forward", "2", "49.88"), ("backward", "1", "100")),
    ]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        *((0, 0, "0"), (0, 9, "0"), (9, 9, "100"), (1, 3, "33.33"), (1, 10**6, "< 0.01")),
        (10**6 - 1, 10**6, "> 99.99"),
    ],
)
def test_only_all_is_a_hundred_percent(part: int, whole: int, text: str) -> None:
    assert share_text(part, whole) == text


def test_a_cell_is_measured_once_however_many_columns_go(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def counted(text: str) -> int:
        measured.append(text)
        return len(text)

    monkeypatch.setattr("harness.reports.layout.cell_len", counted)
    header = [f"column{number}" for number in range(12)]
    rows = [[f"cell{row}of{number}" for number in range(12)] for row in range(20)]
    shown(60, header, rows, spare=header[:0:-1])
    assert sorted(text for text in measured if text.startswith("cell")) == sorted(cell for row in rows for cell in row)
