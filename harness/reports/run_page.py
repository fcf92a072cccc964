"""The page of a run: verdict of its gate, levels, flips, certificate, ledger, and what the numbers depend on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.gates.keys import asked_with
from harness.record import SiteCount
from harness.reports.gate_page import gate_parts, verdict_of
from harness.reports.page import Heading, Lines, Page, Part, Prose, Table
from harness.reports.perplexity_page import perplexity_table
from harness.reports.repeated_table import repeated_tables
from harness.reports.subscore_tables import subscore_tables
from harness.reports.tables import (
    LEDGER_HEADER,
    LEDGER_LEGEND,
    LEDGER_SPARE,
    LEVEL_SPARE,
    SEEN_HEADER,
    SEEN_SPARE,
    bounds_text,
    certificate_lines,
    ledger_rows,
    level_header,
    level_rows,
    seen_rows,
)
from harness.thresholds import ALPHA

FLIPS_SHOWN, TEXT_SHOWN = 10, 160
FLIP_HEADER = (*("change", "item", "right answer", "baseline", "this checkpoint", "question", "this checkpoint wrote"),)
FLIP_LEGEND = (
    "Baseline and this checkpoint: the outcomes, and the answers read where they are stored; a baseline file keeps"
    " outcomes alone, so its right answer is the one of the reference and its wrong one is not known."
)
_ENOUGH = 4096
"""Characters of a text, from its end, that are looked at for its last :data:`TEXT_SHOWN`."""

INTERVALS = (
    f"In brackets: {bounds_text(ALPHA)}. Draws: answers, one an item and noise seed. Retention: accuracy under noise"
    " / clean accuracy. Format: answers that every score could read; cut: answers that stopped at the token limit."
)


def run_page(report: Mapping[str, Any], counts: Sequence[SiteCount] = ()) -> Page:
    """Return the page of :func:`harness.reports.run_report.run_report`; ``counts`` adds every entry of the ledger."""
    gate = report["gate"]
    judged = () if gate is None else gate_parts(gate)
    notes, verdict = report["notes"], None if gate is None else verdict_of(gate)
    parts = (*judged, *_measured(report), *_evidence(report, counts), *_background(report))
    return Page.of(f"Robustness of {_subject(report)}", *parts, notes=notes, verdict=verdict)


def ledger_table(ledger: Sequence[Mapping[str, Any]]) -> Table:
    """Return the ledger summed by operator and direction."""
    return Table.of(
        "Ledger: what was really perturbed",
        LEDGER_HEADER,
        ledger_rows(ledger),
        spare=LEDGER_SPARE,
        legend=LEDGER_LEGEND,
    )


def site_table(counts: Sequence[SiteCount]) -> Table:
    """Return every entry of the ledger, as each process counted it."""
    return Table.of("Ledger by site", SEEN_HEADER, seen_rows(counts), spare=SEEN_SPARE)


def _measured(report: Mapping[str, Any]) -> Iterator[Part]:
    header, asked = level_header(report), asked_with(report["measurement_key"])
    yield Heading("Levels", detail=True)
    prefix = report["measurement_key"].get("prefix_token")
    if prefix is not None:
        yield Prose(f"Log-likelihoods; in the place of an empty context stands {prefix}.")
    if any("perplexity" in level for level in report["levels"]):
        yield perplexity_table(report["levels"])
        if report["missing_records"]:
            yield Prose(_incomplete(report), strong=True)
        return
    yield Table.of(
        "Accuracy by noise level",
        header,
        level_rows(report),
        spare=(*LEVEL_SPARE[:3], header[5], *LEVEL_SPARE[3:]),
        legend=INTERVALS,
    )
    if asked:
        yield Prose(f"Asked with: {asked}")
    yield from repeated_tables(report["levels"], "clean", ALPHA)
    if "subscores" in report:
        yield from subscore_tables(report["subscores"])
    if report["missing_records"]:
        yield Prose(_incomplete(report), strong=True)
    yield from _flipped(report["flips"])


def _evidence(report: Mapping[str, Any], counts: Sequence[SiteCount]) -> Iterator[Part]:
    yield Heading("Was the noise on?", detail=True)
    if report["ledger"]:
        yield ledger_table(report["ledger"])
    yield Lines.of(certificate_lines(report["certificate"]))
    if counts:
        yield site_table(counts)


def _background(report: Mapping[str, Any]) -> Iterator[Part]:
    for part in report["quantization"]:
        title = f"Kept in high precision by {part['text']} ({part['sites']} sites)"
        yield from _reasons(title, part["excluded"])
    for title, field in (
        ("Left out on purpose", "excluded"),
        ("Out of reach in this model", "uncovered"),
        ("Not compared by the audit", "uncompared"),
    ):
        if report["plan"][field]:
            yield from _reasons(title, report["plan"][field])
    yield Heading("What the numbers depend on", detail=True)
    yield Table.of("", ("field", "value"), _key_rows(report), detail=True)


def _reasons(title: str, reasons: Mapping[str, str]) -> tuple[Part, ...]:
    return Heading(title, detail=True), Lines.of(_grouped(reasons), detail=True)


def _incomplete(report: Mapping[str, Any]) -> str:
    """Why records are missing: they were not needed, or the run is unfinished."""
    gate, missing = report["gate"], report["missing_records"]
    if gate is not None and gate["early_stop"] is not None and gate["early_stop"]["saved"]:
        return f"Stopped early: {missing:,} records were not needed. Of no use but for this gate."
    return f"Unfinished: {missing:,} records are missing."


def _flipped(flips: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    """The first flips of each level, one row an item, with the text of its first; all are in the JSON report."""
    if not flips:
        return
    yield Heading("Flips against the baseline", detail=True)
    for level in sorted({flip["level"] for flip in flips}):
        own = [flip for flip in flips if flip["level"] == level]
        items: dict[str, list[Mapping[str, Any]]] = {}
        for flip in own:
            items.setdefault(flip["item"], []).append(flip)
        shown = f", the first {FLIPS_SHOWN} here" if len(items) > FLIPS_SHOWN else ""
        draws = f"{len(own):,} outcomes of " if own[0]["seeds"] > 1 else ""
        rows = [_flip_row(item, found) for item, found in list(items.items())[:FLIPS_SHOWN]]
        yield Prose(f"Level {100 * level:g} %: {draws}{len(items):,} items{shown}.", detail=True)
        yield Table.of("", FLIP_HEADER, rows, detail=True, legend=FLIP_LEGEND)


def _flip_row(item: str, found: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What happened to one item over the noise seeds; the text is that of the first seed named."""
    first = found[0]
    counts = Counter(flip["change"] for flip in found)
    seeds = f" of {first['seeds']} seeds" if first["seeds"] > 1 else ""
    change = ", ".join(f"{word} in {counts[word]}" if seeds else word for word in ("lost", "gained") if counts[word])
    return (
        f"{change}{seeds}",
        item,
        "-" if first["reference"] is None else _short(first["reference"]),
        _each(flip["baseline"] for flip in found),
        _each(flip["reason"] + ("" if flip["answer"] is None else f" ({_short(flip['answer'])})") for flip in found),
        _short(first["question"]),
        _short(first["text"]),
    )


def _each(words: Iterable[str]) -> str:
    """Every different one once, in their order."""
    return ", ".join(dict.fromkeys(words))


def _short(text: str) -> str:
    """One line, the end of what is too long: there the answer stands."""
    line = " ".join(text[-_ENOUGH:].split())
    return line if len(line) <= TEXT_SHOWN and len(text) <= _ENOUGH else f"... {line[-TEXT_SHOWN:]}"


def _subject(report: Mapping[str, Any]) -> str:
    checkpoint = report["checkpoint"]
    if not checkpoint:
        return f"{report['run']} (external, uncertified)"
    return _hub(checkpoint) or str(checkpoint["path"])


def _hub(checkpoint: Mapping[str, Any]) -> str:
    """Name and commit of a checkpoint from a hub; empty for others."""
    hub = checkpoint.get("hub")
    return f"{hub['id']} at {hub['revision']}" if hub else ""


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
        rows += [("hub", name) for name in [_hub(report["checkpoint"])] if name]
    environment = report["environment"]
    for code in report["code"]:
        rows.append(("code", ", ".join(f"{name} {value}" for name, value in sorted(code.items()))))
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    return [*rows, ("versions", packages), ("processor", f"{environment['processor']} x {environment['cores']}")]
