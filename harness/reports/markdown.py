"""``report.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.markdown_parts import bullets, table_lines
from harness.reports.tables import (
    GATE_HEADER,
    LEDGER_HEADER,
    LEVEL_HEADER,
    certificate_lines,
    gate_rows,
    ledger_rows,
    level_rows,
    reason_lines,
)

FLIPS_SHOWN, TEXT_SHOWN = 10, 160

INTERVALS = "Intervals: one-sided 95 % bounds in brackets. Retention: accuracy under noise / clean accuracy."


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown text."""
    parts = [f"# Robustness of {_subject(report)}", ""]
    if report["notes"]:
        parts += [*bullets(report["notes"]), ""]
    if report["gate"] is not None:
        gate = report["gate"]
        parts += [f"**{gate['verdict']}** against {gate['baseline']['label']} ({gate['family']})", ""]
        parts += [*table_lines(GATE_HEADER, gate_rows(gate)), "", *bullets(reason_lines(gate)), ""]
    parts += ["## Levels", "", *table_lines(LEVEL_HEADER, level_rows(report)), "", INTERVALS, ""]
    if report["missing_records"]:
        parts += [f"**{_incomplete(report)}**", ""]
    parts += _flipped(report["flips"])
    parts += ["## Was the noise on?", "", *bullets(certificate_lines(report["certificate"])), ""]
    if report["ledger"]:
        parts += [*table_lines(LEDGER_HEADER, ledger_rows(report["ledger"])), ""]
    for part in report["quantization"]:
        title = f"## Kept in high precision by {part['text']} ({part['sites']} sites)"
        parts += [title, "", *bullets(_grouped(part["excluded"])), ""]
    for title, field in (("Left out on purpose", "excluded"), ("Out of reach in this model", "uncovered")):
        if report["plan"][field]:
            parts += [f"## {title}", "", *bullets(_grouped(report["plan"][field])), ""]
    parts += ["## What the numbers depend on", "", *table_lines(("field", "value"), list(_key_rows(report))), ""]
    return "\n".join(parts)


def _incomplete(report: Mapping[str, Any]) -> str:
    """Why records are missing: they were not needed, or the run is unfinished."""
    gate, missing = report["gate"], report["missing_records"]
    if gate is not None and gate["early_stop"] is not None and gate["early_stop"]["saved"]:
        return f"Stopped early: {missing} records were not needed. Of no use but for this gate."
    return f"Unfinished: {missing} records are missing."


def _flipped(flips: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first flips of each level with their text; all of them are in the JSON report."""
    if not flips:
        return []
    parts = ["## Flips against the baseline", ""]
    for level in sorted({flip["level"] for flip in flips}):
        own = [flip for flip in flips if flip["level"] == level]
        shown = f", the first {FLIPS_SHOWN} here" if len(own) > FLIPS_SHOWN else ""
        parts += [f"Level {100 * level:g} %: {len(own)} outcomes{shown}.", ""]
        rows = [
            (flip["change"], flip["item"], str(flip["seed"]), _short(flip["question"]), _short(flip["text"]))
            for flip in own[:FLIPS_SHOWN]
        ]
        parts += [*table_lines(("change", "item", "seed", "question", "this checkpoint wrote"), rows), ""]
    return parts


def _short(text: str) -> str:
    """One line, the end of what is too long: there the answer stands."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT_SHOWN else f"... {line[-TEXT_SHOWN:]}"


def _subject(report: Mapping[str, Any]) -> str:
    checkpoint = report["checkpoint"]
    return str(checkpoint["path"]) if checkpoint else f"{report['run']} (external, uncertified)"


def _grouped(reasons: Mapping[str, str]) -> list[str]:
    """``name, name, ...: reason``, one line per reason."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in groups.items()]


def _key_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(name, str(value)) for name, value in sorted(report["measurement_key"].items())]
    if report["checkpoint"]:
        rows.append(("weights (SHA-256)", report["checkpoint"]["weights"]))
    environment = report["environment"]
    for code in report["code"]:
        rows.append(("code", ", ".join(f"{name} {value}" for name, value in sorted(code.items()))))
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    return [*rows, ("versions", packages), ("processor", f"{environment['processor']} x {environment['cores']}")]
