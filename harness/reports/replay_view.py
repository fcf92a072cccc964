"""Shows a replayed item: the clean and the noisy text side by side, where they part, and the stored records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.reports.layout import print_lines, print_table, stdout_console

SIDE_BY_SIDE = 80
"""Columns from which two texts stand side by side."""

FACTS = ("generation", "tokens", "end", "answer", "outcome", "stored record")
AS_STORED, DIFFERS = "as stored", "DIFFERS from the stored record"
MARK, PARTED = "bold reverse", "end"
_PLAIN = frozenset("\n\t")


def print_replay(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Question, both texts with the first token where they part in ``>> <<``, and how they compare."""
    console = console or stdout_console()
    print_lines(console, [f"item {report['item']} of {report['run']}, noise {report['noise']}, seed {report['seed']}"])
    console.print(Text(printable(report["question"])), overflow="fold")
    print_lines(console, [f"reference answer: {printable(report['reference'])}"])
    names = _names(report)
    _print_texts(console, names, [_marked(found, report["equal_tokens"]) for found in report["generations"]])
    rows = [_facts(name, found) for name, found in zip(names, report["generations"], strict=True)]
    print_table(console, "Held against the stored records", FACTS, rows)
    print_lines(console, [*_parting(report), *_noise(report), *_verdict(report, names)])


def printable(text: str) -> str:
    """``text`` without control characters, which a noisy model may well write: they are shown as escapes."""
    return "".join(
        letter if letter in _PLAIN or letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _names(report: Mapping[str, Any]) -> list[str]:
    noisy = f"noise {100 * report['level']:g} %, seed {report['seed']}"
    return ["clean", noisy][: len(report["generations"])]


def _marked(generation: Mapping[str, Any], equal: int | None) -> Text:
    before, at, after = (printable(part) for part in generation["parts"])
    text = Text(before)
    if equal is not None:
        shown = at.replace("\n", "\\n").replace("\t", "\\t") or PARTED
        text.append(f">>{shown}<<", MARK)
        text.append("\n" if at.endswith("\n") else "")
    return text.append(after)


def _print_texts(console: Console, names: Sequence[str], texts: Sequence[Text]) -> None:
    if console.width < SIDE_BY_SIDE:
        for name, text in zip(names, texts, strict=True):
            console.print(Text(f"--- {name}", "bold"))
            console.print(text, overflow="fold")
        return
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    table.add_row(*texts)
    console.print(table)


def _facts(name: str, generation: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        str(len(generation["tokens"])),
        "cut at the limit" if generation["truncated"] else "by itself",
        "-" if generation["answer"] is None else printable(generation["answer"]),
        generation["reason"],
        AS_STORED if generation["as_stored"] else DIFFERS,
    )


def _parting(report: Mapping[str, Any]) -> list[str]:
    if len(report["generations"]) == 1:
        return []
    if report["equal_tokens"] is None:
        return ["both texts are the same, token for token"]
    shown = [repr(found["parts"][1]) if found["parts"][1] else "its end" for found in report["generations"]]
    return [f"they part after {report['equal_tokens']} equal tokens: {shown[0]} clean, {shown[1]} with noise"]


def _noise(report: Mapping[str, Any]) -> list[str]:
    groups = [group for group in report["ledger"] if group["level"] == report["level"]]
    sites, changed, elements = (sum(group[name] for group in groups) for name in ("sites", "changed", "elements"))
    reached = [group[name] for group in groups for name in ("relative_rms_low", "relative_rms_high")]
    known = [value for value in reached if value is not None]
    span = f", dy/y RMS {min(known):.4f} - {max(known):.4f}" if known else ""
    level = f"{100 * report['level']:g} %"
    lines = [f"counted at level {level}: {changed:,} of {elements:,} elements changed at {sites} sites{span}"]
    if report["certificate"] != "certified":
        lines.append(f"certificate of the run: {report['certificate']}")
    return lines


def _verdict(report: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    lines = []
    for name, found in zip(names, report["generations"], strict=True):
        if (found["reason"], found["score"]) != (found["stored"]["reason"], found["stored"]["score"]):
            lines.append(f"{name}: {found['reason']} now, {found['stored']['reason']} in the stored record")
        if found["as_stored"]:
            continue
        first = found["first_difference"]
        if first is None:
            where = "the same tokens, but only one of them came to an end"
        else:
            now, stored = (repr(first[name]) if first[name] is not None else "the end" for name in ("now", "stored"))
            where = f"the first token that differs comes after {first['token']} equal ones: {now} now, {stored} stored"
        lines.append(f"{name}: {where}")
    if not report["reproduced"]:
        lines.append(
            f"INVALID: the run cannot be reproduced here (made on {report['stored_device']}, now on {report['device']})"
        )
    return lines
