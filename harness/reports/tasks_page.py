"""The page of several tasks: a row for each level of each run, and the verdict over all where they were gated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.gates.keys import asked_with
from harness.gates.perplexity import is_continuous
from harness.reports.nats_tables import TITLE, judges_texts, nats_table
from harness.reports.page import Lines, Page, Part, Table, Verdict
from harness.reports.perplexity_page import perplexity_table
from harness.reports.run_page import INTERVALS
from harness.reports.run_report import run_report, write_files, write_reports
from harness.reports.tables import (
    GATE_HEADER,
    GATE_SPARE,
    certificate_lines,
    gate_legend,
    gate_rows,
    level_rows,
    reason_lines,
)
from harness.runs.loaded import Run, is_run, load_run
from harness.runs.several import read_tasks

MEASURED_HEADER = (
    "task",
    "level",
    "n",
    "draws",
    "accuracy %",
    "retention",
    "scores %",
    "format %",
    "cut %",
    "unscored",
)
MEASURED_SPARE = ("cut %", "format %", "draws", "scores %", "unscored", "retention", "n")
NOT_THERE = "not evaluated yet"


def tasks_report(out: Path, runs: Mapping[str, Run | None], gated: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the page of ``runs`` (task -> its run, None where it is not there yet) shows, as JSON types.

    ``gated`` is :meth:`harness.library.gate_tasks.GatedTasks.to_json` where they were judged together.
    """
    reports = {task: None if run is None else run_report(run) for task, run in runs.items()}
    return {"out": str(out), "tasks": reports, "gate": gated}


def tasks_page(report: Mapping[str, Any]) -> Page:
    """Return the page of :func:`tasks_report`."""
    gated, tasks = report["gate"], report["tasks"]
    notes = list(
        dict.fromkeys(f"{task}: {note}" for task, each in tasks.items() for note in (each or {}).get("notes", ()))
    )
    title = f"Robustness of {_subject(report)} on {len(tasks)} tasks"
    judged = () if gated is None else gate_tasks_parts(gated)
    verdict = None if gated is None else verdict_of_tasks(gated)
    return Page.of(title, *judged, *_measured(tasks), notes=notes, verdict=verdict)


def stored_page(path: Path) -> Page:
    """Return the page of the folder ``path``, computed again from the records of its runs."""
    runs = {task: load_run(folder) if is_run(folder) else None for task, folder in read_tasks(path).items()}
    return tasks_page(tasks_report(path, runs))


def write_tasks(out: Path, report: Mapping[str, Any]) -> None:
    """Write the reports of the folder ``out``, and those of each run, as :func:`write_reports` does."""
    if report["gate"] is None:
        for each in report["tasks"].values():
            write_reports(Path(each["run"]), each)
    write_files(out, report, tasks_page(report))


def gate_tasks_page(gated: Mapping[str, Any]) -> Page:
    """Return the page of a gate over several tasks (:meth:`harness.library.gate_tasks.GatedTasks.to_json`)."""
    notes = [f"{task}: {note}" for task, gate in gated["tasks"].items() for note in (*gate["notes"], *_attempts(gate))]
    title = f"{gated['verdict']} over {len(gated['tasks'])} tasks"
    return Page.of(title, *gate_tasks_parts(gated), notes=notes, verdict=verdict_of_tasks(gated))


def gate_tasks_parts(gated: Mapping[str, Any]) -> tuple[Part, ...]:
    """Return the tables of all levels of all tasks, those of texts by themselves, and why each has its verdict."""
    rows, lines = [], []
    texts = [(task, gate) for task, gate in gated["tasks"].items() if judges_texts(gate)]
    for task, gate in gated["tasks"].items():
        own = [(task, *row) for row in gate_rows(gate)]
        if (task, gate) not in texts:
            rows += own or [(task, "-", gate["verdict"], *["-"] * (len(GATE_HEADER) - 2))]
        lines += [f"{task}, {line}" if own else f"{task}: {line}" for line in reason_lines(gate)]
    judged = [gate for task, gate in gated["tasks"].items() if gate["levels"] and (task, gate) not in texts]
    legend = (
        gate_legend({**judged[0], "levels": [each for gate in judged for each in gate["levels"]]}) if judged else ""
    )
    table = Table.of("Gate over all tasks", ("task", *GATE_HEADER), rows, spare=GATE_SPARE, legend=legend)
    lost = (nats_table(texts, f"{TITLE}, over all tasks", tasks=True),) if texts else ()
    return *((table,) if rows else ()), *lost, Lines.of(lines)


def verdict_of_tasks(gated: Mapping[str, Any]) -> Verdict:
    """Return the verdict over all tasks, and the family that it rests on."""
    against = [gate["baseline"]["label"] for gate in gated["tasks"].values() if "baseline" in gate]
    return Verdict(gated["verdict"], gated["family"], ", ".join(against))


def _measured(tasks: Mapping[str, Any]) -> Iterator[Part]:
    texts = {task: each for task, each in tasks.items() if each and is_continuous(each["measurement_key"])}
    rows = [row for task, each in tasks.items() if task not in texts for row in _rows(task, each)]
    if rows:
        title = "Accuracy by task and noise level"
        yield Table.of(title, MEASURED_HEADER, rows, spare=MEASURED_SPARE, legend=INTERVALS)
    for task, each in texts.items():
        yield perplexity_table(each["levels"], f"{task}: perplexity by noise level")
    lines = []
    for task, each in tasks.items():
        if each is None:
            continue
        asked = asked_with(each["measurement_key"])
        lines += [f"{task}, asked with: {asked}"] if asked else []
        lines += [f"{task}, {line}" for line in certificate_lines(each["certificate"]) if _says_it(line)]
        lines += (
            [f"{task}: unfinished, {each['missing_records']} records are missing"] if each["missing_records"] else []
        )
        lines.append(f"{task}: {each['run']}")
    yield Lines.of(lines)


def _says_it(line: str) -> bool:
    """The certificate in one line, and everything that speaks against it; the rest is in the run's own report."""
    return line.startswith(("certificate: ", "INVALID: ", "NONDETERMINISTIC"))


def _rows(task: str, report: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    if report is None or not report["levels"]:
        return [(task, NOT_THERE, *["-"] * (len(MEASURED_HEADER) - 2))]
    return [(task, *row) for row in level_rows(report)]


def _attempts(gate: Mapping[str, Any]) -> list[str]:
    return [gate["attempts"]] if gate.get("attempts") else []


def _subject(report: Mapping[str, Any]) -> str:
    found = [each["checkpoint"]["path"] for each in report["tasks"].values() if each and each["checkpoint"]]
    return str(found[0]) if found else str(report["out"])
