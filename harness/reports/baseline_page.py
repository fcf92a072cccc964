"""The pages of baselines: all of a folder, one in full, and the difference of two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.baselines.book import Difference
from harness.baselines.summary import show_baseline
from harness.reports.page import Lines, Page
from harness.reports.tables import bounds_text, bracketed, percent
from harness.thresholds import ALPHA


def stored_page(path: Path) -> Page:
    """Return the page of the baseline in the file ``path``."""
    return baseline_page(show_baseline(path.parent, str(path)))


def baseline_page(found: Mapping[str, Any]) -> Page:
    """Return one baseline: what it measured, of how many, with what interval, and what that depends on."""
    about = Lines.of(f"{field}: {found[field]}" for field in ("name", "accepted", "reason", "status", "items"))
    notes = Lines.of(f"note: {note}" for note in found["notes"])
    levels = Lines.of(f"level {100 * level['level']:g} %: {_measured(level)}" for level in found["levels"])
    how = Lines((f"in brackets: {bounds_text(ALPHA)}",))
    key = Lines.of(f"{field}: {value}" for field, value in found["measurement_key"].items())
    return Page.of(f"Baseline {found['name']}", about, notes, levels, how, key)


def _measured(level: Mapping[str, Any]) -> str:
    if "nats_per_token" not in level:
        return f"accuracy {percent(level['accuracy'])} % of {level['n']} items"
    nats = bracketed(level["nats_per_token"], 4)
    return f"{nats} nats a token, of {level['n']} documents with {level['tokens']:,} tokens"


def list_page(rows: Sequence[Mapping[str, Any]]) -> Page:
    """Return a line for each baseline."""
    lines = (
        f"{row['name']}  {row['accepted']}  {row['items']} items  {row['status']}  {row['reason']}" for row in rows
    )
    return Page.of("Baselines", Lines.of(lines))


def difference_page(found: Difference, left: str, right: str) -> Page:
    """Return what differs between two baselines or runs, outcome by outcome."""
    return Page.of(f"{left} and {right}", Lines.of(found.key), Lines.of(_changes(found, left, right)))


def _changes(found: Difference, left: str, right: str) -> Iterator[str]:
    for level in found.only_left:
        flips = found.changed.get(level, {})
        count = sum(len(seeds) for seeds in flips.values())
        alone = f"{found.only_left[level]} only in {left}, {found.only_right[level]} only in {right}"
        yield f"level {100 * level:g} %: {count} outcomes differ, {alone}"
        for item, seeds in flips.items():
            words = ", ".join(f"seed {seed} {before} -> {after}" for seed, (before, after) in seeds.items())
            yield f"  {item}: {words}"
