"""The page of a replayed item: the clean and the noisy text side by side, where they part, and the stored records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.record import QUANTIZER, SiteCount
from harness.reports.page import Lines, Page, Passage, Prose, Table, Texts
from harness.reports.run_page import ledger_table, site_table

FACTS = ("generation", "tokens", "end", "answer", "outcome", "stored record")
AS_STORED, DIFFERS = "as stored", "DIFFERS from the stored record"
PARTED = "end"


def replay_page(report: Mapping[str, Any], counts: Sequence[SiteCount] = ()) -> Page:
    """Return question, both texts with the first token where they part in ``>> <<``, and how they compare.

    ``counts`` adds what was counted at every site.
    """
    names, found = _names(report), report["generations"]
    title = f"item {report['item']} of {report['run']}, noise {report['noise']}, seed {report['seed']}"
    texts = tuple(_passage(name, each, report["equal_tokens"]) for name, each in zip(names, found, strict=True))
    rows = [_facts(name, each) for name, each in zip(names, found, strict=True)]
    return Page.of(
        title,
        Lines((title,)),
        Prose(report["question"]),
        Lines((f"reference answer: {report['reference']}",)),
        Texts(texts),
        Table.of("Held against the stored records", FACTS, rows, spare=("end", "tokens")),
        Lines.of([*_parting(report), *_noise(report), *_verdict(report, names)]),
        *((ledger_table(report["ledger"]), site_table(counts)) if counts else ()),
        notes=report["notes"],
    )


def _names(report: Mapping[str, Any]) -> list[str]:
    noisy = f"noise {100 * report['level']:g} %, seed {report['seed']}"
    return ["clean", noisy][: len(report["generations"])]


def _passage(name: str, generation: Mapping[str, Any], equal: int | None) -> Passage:
    before, at, after = generation["parts"]
    if equal is None:
        return Passage(name, before + after)
    marked = at.replace("\n", "\\n").replace("\t", "\\t") or PARTED
    return Passage(name, before, marked, ("\n" if at.endswith("\n") else "") + after)


def _facts(name: str, generation: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        str(len(generation["tokens"])),
        "cut at the limit" if generation["truncated"] and not generation["by_text"] else "by itself",
        "-" if generation["answer"] is None else generation["answer"],
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
    here = [group for group in report["ledger"] if group["level"] == report["level"]]
    level = f"{100 * report['level']:g} %"
    quantized = [group for group in here if group["kind"] == QUANTIZER]
    lines = [f"counted at level {level}: {_counted([group for group in here if group['kind'] != QUANTIZER])}"]
    lines += [f"quantized at level {level}: {_counted(quantized)}"] if quantized else []
    if report["certificate"] != "certified":
        lines.append(f"certificate of the run: {report['certificate']}")
    return lines


def _counted(groups: Sequence[Mapping[str, Any]]) -> str:
    """How many elements changed at how many sites, and by how much relative to the result."""
    sites, changed, elements = (sum(group[name] for group in groups) for name in ("sites", "changed", "elements"))
    reached = [group[name] for group in groups for name in ("relative_rms_low", "relative_rms_high")]
    known = [value for value in reached if value is not None]
    span = f", dy/y RMS {min(known):.4f} - {max(known):.4f}" if known else ""
    return f"{changed:,} of {elements:,} elements changed at {sites} sites{span}"


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
