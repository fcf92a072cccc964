"""One stored run, five renderings: terminal, Markdown, HTML, the page's JSON and the report's JSON, one set of numbers.

Each is read back from what is written, by a reader of its own, and held to the numbers of ``report.json`` rounded here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.diagnostics.scan_result import OUTSIDE, Metrics, ModuleScan, ScanResult
from harness.quant_error import QuantError
from harness.reports.scan_page import write_scan
from harness.testing import write_run

pytestmark = pytest.mark.unit

Cell = dict[str, str]
LEVELS = (0.0, 0.05, 0.1)
OURS = {0.0: [[1]] * 51 + [[0]] * 9, 0.05: [[1, 0, 1]] * 44 + [[0, 1, "unparsed"]] * 16, 0.1: [[0, 0, 1]] * 60}
THEIRS = {0.0: [[1]] * 53 + [[0]] * 7, 0.05: [[1, 1, 1]] * 40 + [[1, 0, 0]] * 20, 0.1: [[0, 1, 1]] * 60}


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``ours``, gated against the baseline of ``theirs``."""
    from click.testing import CliRunner

    from harness.cli.main import command

    folder = tmp_path_factory.mktemp("same")
    write_run(folder / "ours", OURS), write_run(folder / "theirs", THEIRS)
    baselines = ["--baselines-dir", str(folder / "baselines")]
    runner = CliRunner(env={"COLUMNS": "220"})
    runner.invoke(command, ["baseline", "accept", str(folder / "theirs"), "--name", "a", "--reason", "r", *baselines])
    done = runner.invoke(command, ["gate", str(folder / "ours"), "--baseline", "a", *baselines])
    (folder / "terminal").write_text(done.stdout, encoding="utf-8")
    for form in ("json", "markdown", "terminal"):
        shown = runner.invoke(command, ["report", str(folder / "ours"), "--format", form])
        assert shown.exit_code == 0
        (folder / f"shown.{form}").write_text(shown.stdout, encoding="utf-8")
    written = runner.invoke(command, ["report", str(folder / "ours"), "--html", str(folder / "shown.html")])
    assert written.exit_code == 0
    return folder


def from_terminal(text: str) -> list[list[Cell]]:
    """Every table with a frame."""
    found: list[list[Cell]] = []
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if line.startswith("┃"):
            header = cells
            found.append([])
        elif line.startswith("│"):
            found[-1].append(dict(zip(header, cells, strict=True)))
    return found


def from_markdown(text: str) -> list[list[Cell]]:
    """Every table, with what Markdown escaped as it is."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        rows = [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line.split(" | ")] for line in block.splitlines()]
        rows = [[cell.strip("| ") for cell in row] for row in rows]
        found.append([dict(zip(rows[0], row, strict=True)) for row in rows[2:]])
    return found


class _Tables(HTMLParser):
    """The text of every cell of every table."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.cell is not None:
            self.tables[-1][-1].append("".join(self.cell))
            self.cell = None


def from_html(text: str) -> list[list[Cell]]:
    reader = _Tables()
    reader.feed(text)
    return [[dict(zip(rows[0], row, strict=True)) for row in rows[1:]] for rows in reader.tables]


def from_page(page: dict[str, Any]) -> list[list[Cell]]:
    return [
        [dict(zip(part["header"], row, strict=True)) for row in part["rows"]]
        for part in page["parts"]
        if part["kind"] == "table"
    ]


def table(found: list[list[Cell]], column: str) -> dict[str, Cell]:
    """Level -> row of the first table that has ``column``."""
    rows = next(rows for rows in found if rows and column in rows[0])
    return {row["level"]: row for row in rows}


def interval(value: dict[str, float] | None, form: str) -> str:
    if value is None:
        return "-"
    factor = 1.0 if form == "{:.3f}" else 100.0
    estimate, low, high = (form.format(factor * value[name]) for name in ("estimate", "low", "high"))
    return f"{estimate} [{low}, {high}]".replace("-0.0 ", "+0.0 ")


def run_row(level: dict[str, Any]) -> Cell:
    return {
        "n": str(level["n"]),
        "draws": str(level["draws"]),
        "accuracy %": interval(level["accuracy"], "{:.1f}"),
        "retention": interval(level["retention"], "{:.3f}"),
        "format %": f"{100 * level['format_rate']:.1f}",
        "cut %": f"{100 * level['truncation_rate']:.1f}",
    }


def gate_row(level: dict[str, Any]) -> Cell:
    flips, draws = level["flips"], level["n"] * len(level["seeds"])
    return {
        "verdict": level["verdict"],
        "n": str(level["n"]),
        "accuracy %": interval(level["accuracy"], "{:.1f}"),
        "baseline %": interval(level["baseline_accuracy"], "{:.1f}"),
        "difference pp": interval(level["difference"], "{:+.1f}"),
        "bootstrap pp": interval(level["bootstrap"], "{:+.1f}"),
        "retention": interval(level["retention"], "{:.3f}"),
        "lost / gained": f"{flips['lost']} / {flips['gained']}" + (f" of {draws} draws" if draws > level["n"] else ""),
    }


def assert_same(rows: dict[str, Cell], expected: dict[str, Cell], where: str) -> None:
    assert list(rows) == list(expected), where
    for name, cells in expected.items():
        assert {column: rows[name][column] for column in cells} == cells, (where, name)


def by_level(levels: list[dict[str, Any]], row: Callable[[dict[str, Any]], Cell]) -> dict[str, Cell]:
    return {f"{100 * level['level']:g} %": row(level) for level in levels}


def test_a_gated_run_says_the_same_everywhere(gated: Path) -> None:
    report = json.loads((gated / "ours" / "report.json").read_text())
    (verdict,) = (gated / "ours" / "verdicts").glob("*.json")
    stored = json.loads(verdict.read_text())
    assert report["gate"]["levels"] == stored["levels"]
    judged, measured = by_level(report["gate"]["levels"], gate_row), by_level(report["levels"], run_row)
    for where, tables in {
        "terminal": from_terminal((gated / "terminal").read_text()),
        "report.md": from_markdown((gated / "ours" / "report.md").read_text()),
        "report.html": from_html((gated / "ours" / "report.html").read_text()),
    }.items():
        assert_same(table(tables, "difference pp"), judged, where)
    for where, tables in {
        "report.md": from_markdown((gated / "ours" / "report.md").read_text()),
        "markdown": from_markdown((gated / "shown.markdown").read_text()),
        "terminal": from_terminal((gated / "shown.terminal").read_text()),
        "report.html": from_html((gated / "ours" / "report.html").read_text()),
        "html": from_html((gated / "shown.html").read_text()),
        "page": from_page(json.loads((gated / "shown.json").read_text())),
    }.items():
        assert_same(table(tables, "draws"), measured, where)
    assert judged["5 %"]["lost / gained"] == "56 / 20 of 180 draws", "by hand: 40 + 16 and 4 + 16"


def test_flips_are_those_that_are_counted(gated: Path) -> None:
    report = json.loads((gated / "ours" / "report.json").read_text())
    for level in report["gate"]["levels"]:
        own = [flip["change"] for flip in report["flips"] if flip["level"] == level["level"]]
        assert {name: own.count(name) for name in ("lost", "gained")} == level["flips"]


class _Hints(HTMLParser):
    """The titles of a heat map's cells and the texts that they stand behind."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[tuple[str, str]] = []
        self._tag, self._text = "", ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._tag = tag

    def handle_data(self, data: str) -> None:
        if self._tag == "text":
            self._text = data
        elif self._tag == "title" and self._text:
            self.cells.append((data, self._text))

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""


def scanned() -> ScanResult:
    """Two layers and the head, with margins of -0.004 dB (which is no -0.00) and more."""

    def module(group: str, sqnr: float) -> ModuleScan:
        error = QuantError(1000, 0, 0, 0, sqnr, 0.0912, 0.0234, 0.1, 0.11, 0.2149, 0.99)
        expected = Metrics(18.8, 0.088, 0.023, 0.21)
        path = f"{group}.mlp.up_proj" if group != OUTSIDE else "lm_head"
        return ModuleScan(path, group, "weights", "mxfp4", (10, 100), "bfloat16", "d", 0, 0.02, error, expected)

    checkpoint = {"path": "p", "model": "m", "weights": "ab" * 32, "settings": "cd" * 32, "adapter": None}
    settings = {"formats": ["mxfp4"], "scale_rules": {"mxfp4": "even"}, "task": None}
    modules = (module("model.layers.0", 18.796), module("model.layers.1", 12.345), module(OUTSIDE, 18.85))
    return ScanResult(checkpoint, settings, modules, (), {}, {}, None)


def test_a_scan_says_the_same_everywhere(tmp_path: Path) -> None:
    from harness.reports.render.terminal import text_lines
    from harness.reports.scan_page import scan_page

    result = scanned()
    write_scan(tmp_path, result, "calibrated")
    layers = json.loads((tmp_path / "scan.json").read_text())["layers"]
    pages = (tmp_path / "scan.html").read_text(), (tmp_path / "scan.md").read_text()
    terminal = "\n".join(text_lines(scan_page(result, "calibrated"), 220))
    assert not any(re.search(r"-0\.0+\b(?!\d)", text) for text in (*pages, terminal))
    hints = _Hints()
    hints.feed(pages[0])
    (rows,) = (rows for rows in from_markdown(pages[1]) if "dead zone % (Gaussian)" in rows[0])
    assert len(rows) == len(layers) == 3
    for layer in layers:
        metrics = layer["metrics"]
        words = {
            "SQNR dB": f"{metrics['sqnr_db']:.2f}",
            "dead zone %": f"{100 * metrics['dead_zone']:.2f}",
            "saturated %": f"{100 * metrics['saturation']:.2f}",
            "relative err. %": f"{100 * metrics['mean_relative']:.2f}",
        }
        own = {hint: text for hint, text in hints.cells if hint.startswith(f"{layer['group']}, ")}
        for name, value in words.items():
            assert own[f"{layer['group']}, weights {name}: {value}"] == value
        (row,) = (row for row in rows if row["layer"] == layer["group"].removeprefix("model.layers."))
        assert row["SQNR dB"] == words["SQNR dB"]
        assert row["dead zone % (Gaussian)"].startswith(words["dead zone %"])
        assert row["saturated % (Gaussian)"].startswith(words["saturated %"])
        assert row["mean relative %"] == words["relative err. %"]
        assert words["SQNR dB"] in terminal
