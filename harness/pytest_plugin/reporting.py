"""Collects what was judged, from all workers: a table at the end, and a folder of reports for CI (no torch)."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.pytest_plugin.rows import PROPERTY, notes, ordered, points, session_page
from harness.pytest_plugin.settings import Settings
from harness.reports.render.markdown import markdown
from harness.text import one_line, visible

NAME = "robustness"
RUN_REPORTS = ("report.md", "report.json", "report.html")
Row = dict[str, Any]


class Reporting:
    """Lives on the controller only; under xdist every worker's reports come here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: dict[str, list[Row]] = {}
        self._written: Path | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows of one test. Properties come again with every phase, and with every rerun: the last call's are
        all."""
        if report.when == "call":
            found = [value for name, value in report.user_properties if name == PROPERTY]
            rows = [{"test": report.nodeid, **json.loads(str(value))} for value in found]
            self._found.pop(report.nodeid, None)
            if rows:
                self._found[report.nodeid] = rows

    @property
    def _rows(self) -> list[Row]:
        return [row for rows in self._found.values() for row in rows]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report folder, also where nothing was judged: that too is to be seen."""
        folder = self._settings.given()["report"]
        if folder is None or session.config.getoption("collectonly", False):
            return
        self._written = session.config.invocation_params.dir / folder
        write_folder(self._written, self._rows)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Write one line per judged level."""
        if not self._rows and self._written is None:
            return
        from harness.reports.render.terminal import text_lines  # rich is loaded only where there is a table

        terminalreporter.section(NAME)
        for line in text_lines(session_page(self._rows), terminalreporter._tw.fullwidth):
            terminalreporter.write_line(line)
        if self._written is not None:
            terminalreporter.write_line(f"reports: {self._written}")


def write_folder(folder: Path, rows: Sequence[Row]) -> None:
    """Write ``robustness.md``, ``.json`` and ``.xml`` (JUnit, one case per judged level), and each run's own."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = ordered(rows)
    counts = dict(Counter(row["verdict"] for row in kept))
    text = json.dumps({"verdicts": counts, "notes": notes(kept), "judged": kept}, indent=2)
    (folder / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{NAME}.md").write_text(markdown(session_page(kept)), encoding="utf-8")
    ElementTree.ElementTree(_junit(kept)).write(folder / f"{NAME}.xml", encoding="utf-8", xml_declaration=True)
    for run in dict.fromkeys(Path(row["run"]) for row in kept):
        for name in RUN_REPORTS:
            if (run / name).is_file():
                (folder / run.name).mkdir(exist_ok=True)
                shutil.copyfile(run / name, folder / run.name / name)


def _junit(rows: Sequence[Mapping[str, Any]]) -> ElementTree.Element:
    """PASS is a case without a failure; everything else is one whose type is the verdict. Notes are its output."""
    failures = sum(row["verdict"] != "PASS" for row in rows)
    suites = ElementTree.Element("testsuites")
    numbers = {"tests": str(len(rows)), "failures": str(failures), "errors": "0", "skipped": "0"}
    suite = ElementTree.SubElement(suites, "testsuite", {"name": NAME, **numbers})
    for row in rows:
        case = _element(suite, "testcase", classname=row["test"], name=points(row))
        properties = ElementTree.SubElement(case, "properties")
        for key in ("verdict", "level", "n", "limit", "against", "label", "certificate", "run"):
            _element(properties, "property", name=key, value=str(row[key]))
        for bound, value in (row["difference"] or {}).items():
            _element(properties, "property", name=f"difference_{bound}", value=str(value))
        if row["verdict"] != "PASS":
            said = f"{row['verdict']} {points(row)}"
            _element(case, "failure", "; ".join(row["reasons"]), type=row["verdict"], message=said)
        if row["notes"]:
            _element(case, "system-out", "\n".join(map(one_line, row["notes"])))
    return suites


def _element(parent: ElementTree.Element, tag: str, text: str = "", **attributes: str) -> ElementTree.Element:
    """A child of ``parent``; XML has no way to hold control characters, so they stand as escapes."""
    child = ElementTree.SubElement(parent, tag, {name: visible(value) for name, value in attributes.items()})
    child.text = visible(text, "\n") or None
    return child
