"""What a reader of other programs' results gives, and what readers share (no torch)."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.strict import shown

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Row:
    """One answer to one item. ``content`` says which item it is, whatever its number in the file; ``values`` are the
    scores by metric (None: the writer gave none), ``error`` says that the measurement failed; ``seed`` numbers repeats
    and epochs; ``place`` is file and line."""

    content: tuple[str, ...]
    seed: int
    values: Mapping[str, float | None]
    question: str
    reference: str
    text: str
    place: str
    answer: str | None = None
    truncated: bool = False
    error: bool = False
    cluster: str = ""


@dataclass(frozen=True)
class Conditions:
    """Under what the answers were given, as far as the file says: fields of a measurement key."""

    template: str = UNKNOWN
    decoding: str = UNKNOWN
    max_new_tokens: str = UNKNOWN
    dtype: str = UNKNOWN


@dataclass(frozen=True)
class Read:
    """The content of one file. ``tool`` is program and version, ``version`` that of the task; ``means`` are the means
    that the writer states by metric, which the rows must have within ``rounded``; ``facts`` its own hashes and names
    (JSON types); ``files`` SHA-256 of what was read, by name."""

    format: str
    tool: str
    task: str
    rows: tuple[Row, ...]
    files: Mapping[str, str]
    version: str = UNKNOWN
    conditions: Conditions = Conditions()
    means: Mapping[str, float] = field(default_factory=dict)
    rounded: float = 1e-6
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics, in the order of the file."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))


def sha256(path: Path) -> str:
    """Return SHA-256 of a file (64 hex digits)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(*parts: object) -> str:
    """Return 16 hex digits of SHA-256 over ``parts`` as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_of(value: object) -> str:
    """Return text as it is, and anything else as canonical JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def number_of(place: str, name: str, value: object) -> float:
    """Return a finite number, true and false as 1 and 0. Raises :class:`HarnessError`."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise HarnessError(f"{place}: {name} = {shown(value)}", "a score is a finite number", "choose another --metric")


def needed(place: str, row: Mapping[str, Any], fields: Mapping[str, type | tuple[type, ...]], what: str) -> None:
    """Raise :class:`HarnessError` for the first of ``fields`` that ``row`` lacks or has of another type; ``what`` names
    the schema."""
    for name, kind in fields.items():
        if name not in row:
            raise HarnessError(f"{place}: no {name}", f"{what} has it", "give a file of that format, or name --format")
        if not isinstance(row[name], kind) or (isinstance(row[name], bool) and kind is int):
            raise HarnessError(
                f"{place}: {name} = {shown(row[name])}", f"{what} has another type there", "check the file"
            )


def repeats_numbered(rows: Sequence[Row], names: Sequence[object] | None = None) -> tuple[Row, ...]:
    """Return ``rows`` with the k-th of the same item as seed k (from 0), for formats that do not number them. Items are
    the same by their ``names`` in the file, by their content where it has none.

    Raises :class:`HarnessError` where items stand unequally often: what is twice in the data cannot be told from what
    was asked twice.
    """
    names = [row.content for row in rows] if names is None else names
    seen: Counter[object] = Counter()
    found = []
    for row, name in zip(rows, names, strict=True):
        found.append(replace(row, seed=seen[name]))
        seen[name] += 1
    counts = Counter(seen.values())
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd, times = next((row, seen[name]) for row, name in zip(found, names, strict=True) if seen[name] != usual)
        raise HarnessError(
            f"{odd.place}: the item {shown(odd.question)} stands {times} times, others {usual} times",
            "repeats cannot be told from questions that the data holds twice",
            "remove the repeated questions, or the part of a file that was cut off",
        )
    return tuple(found)


def without_twins(rows: Iterable[Row], path: Path) -> tuple[tuple[Row, ...], int]:
    """Return ``rows`` with the first of each (item, seed), and how many were dropped: the same question twice in the
    data. Raises :class:`HarnessError` where there is none at all."""
    kept: dict[tuple[tuple[str, ...], int], Row] = {}
    total = 0
    for row in rows:
        total += 1
        kept.setdefault((row.content, row.seed), row)
    if not kept:
        raise HarnessError(f"{path}", "it holds no answers", "give the file with the samples")
    return tuple(kept.values()), total - len(kept)
