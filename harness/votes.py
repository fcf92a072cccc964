"""Which sampled answers to an item are the same: what a majority needs of them, in place of their texts."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

from harness.record import RIGHT, ItemResult, Outcome

AYE, SILENT, MISSING = "+", "-", "."
"""A right answer (all right ones are one), an answer that could not be read, and a draw that was not made."""

_NAMES = string.ascii_letters + string.digits

Votes = Mapping[str, Mapping[int, str]]
"""item -> draw -> the name of its answer; answers of an item are equal where their names are."""


def votes_of(results: Iterable[ItemResult]) -> dict[float, dict[str, dict[int, str]]]:
    """Return level -> :data:`Votes` of ``results``: wrong answers are named in the order of their draws."""
    rows: dict[tuple[float, str], dict[int, ItemResult]] = {}
    for result in results:
        rows.setdefault((result.level, result.item), {})[result.seed] = result
    found: dict[float, dict[str, dict[int, str]]] = {}
    for (level, item), row in rows.items():
        known: dict[str, str] = {}
        found.setdefault(level, {})[item] = {seed: _name(row[seed], known) for seed in sorted(row)}
    return found


def _name(result: ItemResult, known: dict[str, str]) -> str:
    if result.score == 1.0:
        return AYE
    if result.answer is None:
        return SILENT
    return known.setdefault(result.answer, _letter(len(known)))


def _letter(number: int) -> str:
    """A name of one character for every number, distinct ones for distinct numbers below some thousands."""
    return _NAMES[number] if number < len(_NAMES) else chr(0x4E00 + number - len(_NAMES))


def voted(votes: Votes) -> dict[tuple[str, int], str | None]:
    """Return (item, draw) -> the answer that votes, None where it abstains."""
    return {(item, draw): None if name == SILENT else name for item, row in votes.items() for draw, name in row.items()}


def encoded(row: Mapping[int, str], draws: Sequence[int]) -> str:
    """Return the names of ``row``, one character for each of ``draws``."""
    return "".join(row.get(draw, MISSING) for draw in draws)


def decoded(text: str, draws: Sequence[int]) -> dict[int, str]:
    """Return the inverse of :func:`encoded`. Raises ValueError for a ``text`` of another length."""
    return {draw: name for draw, name in zip(draws, text, strict=True) if name != MISSING}


def contradicts(votes: Votes, cells: Mapping[str, Mapping[int, Outcome]]) -> bool:
    """Return whether ``votes`` are not those of the outcomes ``cells`` (item -> draw -> outcome): other draws, or a
    right answer that is not right there."""
    if {item: set(row) for item, row in votes.items()} != {item: set(row) for item, row in cells.items()}:
        return True
    return any(
        (name == AYE) is not (cells[item][draw].reason == RIGHT)
        for item, row in votes.items()
        for draw, name in row.items()
    )
