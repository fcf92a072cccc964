"""Reads completions that were produced elsewhere, for ``harness score``.

JSONL, UTF-8, one object per line: ``completion`` (text) and ``item`` (content hash) or ``question`` (the
task's own question text, space at its ends aside), or both where they agree; optional ``level`` (fraction in
[0, 1), default 0), ``seed`` (integer from 0 to 2^63-1, which is what SQLite holds; default 0) and
``truncated`` (default false: generation ended by itself and not at a token limit). Blank lines are skipped.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.evaluate.tasks.base import Item, Task, read_json_lines, shown
from harness.exceptions import HarnessError

FIELDS = ("completion", "item", "question", "level", "seed", "truncated")
MAX_SEED = 2**63 - 1
_T = TypeVar("_T")


@dataclass(frozen=True)
class Completion:
    """One text that a model gave for ``item`` at a noise ``level`` (fraction) and noise ``seed``."""

    item: Item
    level: float
    seed: int
    text: str
    truncated: bool


def read_completions(path: Path, task: Task) -> tuple[Completion, ...]:
    """All completions of the file, in file order.

    A :class:`HarnessError` that names file, line, value, rule and way out for a file that is missing, empty,
    truncated or not UTF-8 JSONL, for an unknown or contradictory item, an unknown or ill-typed field, and
    for a second completion of one (item, level, seed).
    """
    finder = _Finder.of(task)
    found: list[Completion] = []
    lines: dict[tuple[str, float, int], int] = {}
    for number, row in read_json_lines(path):
        place = f"{path}, line {number}"
        completion = _completion(place, row, finder)
        key = (completion.item.key, completion.level, completion.seed)
        first = lines.setdefault(key, number)
        if first != number:
            raise HarnessError(
                f"{place}: item {key[0]}, level {key[1]:g}, seed {key[2]} stands on line {first} already",
                "each (item, level, seed) has one completion",
                "remove one, or give them different seeds",
            )
        found.append(completion)
    return tuple(found)


@dataclass(frozen=True)
class _Finder:
    """The items of a task by key and by question."""

    task: str
    keys: Mapping[str, Item]
    questions: Mapping[str, Item]

    @classmethod
    def of(cls, task: Task) -> _Finder:
        items = task.items()
        return cls(task.name, {item.key: item for item in items}, {item.question.strip(): item for item in items})

    def find(self, place: str, row: Mapping[str, Any]) -> Item:
        """The item that ``item`` and ``question`` of a row name."""
        named = [
            self._look_up(place, row, name, table)
            for name, table in (("item", self.keys), ("question", self.questions))
            if name in row
        ]
        if not named:
            raise HarnessError(f"{place}: neither item nor question", "one of them is needed", "add one to the line")
        if named[0] != named[-1]:
            raise HarnessError(
                f"{place}: item {row['item']} is not the question {shown(row['question'])}",
                "item and question must name the same item",
                "leave out one of them",
            )
        return named[0]

    def _look_up(self, place: str, row: Mapping[str, Any], name: str, table: Mapping[str, Item]) -> Item:
        value = _typed(place, row, name, str, "text").strip()
        if value not in table:
            raise HarnessError(
                f"{place}: {name} {shown(value)} is not in the task {self.task}",
                f"it must be the {'content hash' if name == 'item' else 'text'} of one of its {len(table)} items",
                "check --task and --data",
            )
        return table[value]


def _completion(place: str, row: Mapping[str, Any], finder: _Finder) -> Completion:
    for name in row:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            way_out = f"did you mean {near[0]}?" if near else "remove it"
            raise HarnessError(f"{place}: unknown field {shown(name)}", f"known are {', '.join(FIELDS)}", way_out)
    if "completion" not in row:
        raise HarnessError(f"{place}: no completion", "every line needs one", "add the model's text as completion")
    text = _typed(place, row, "completion", str, "text")
    truncated = _typed(place, row, "truncated", bool, "true or false") if "truncated" in row else False
    return Completion(finder.find(place, row), _level(place, row), _seed(place, row), text, truncated)


def _typed(place: str, row: Mapping[str, Any], name: str, kind: type[_T], words: str) -> _T:
    value = row[name]
    if not isinstance(value, kind):
        raise HarnessError(f"{place}: {name} is {shown(value)}", f"it must be {words}", "correct the line")
    return value


def _level(place: str, row: Mapping[str, Any]) -> float:
    value = row.get("level", 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        rule = "it must be a number in [0, 1), as a fraction"
        raise HarnessError(f"{place}: level is {shown(value)}", rule, "write 0.05 for 5 %")
    return abs(float(value))


def _seed(place: str, row: Mapping[str, Any]) -> int:
    value = row.get("seed", 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        rule = f"it must be an integer from 0 to {MAX_SEED}"
        raise HarnessError(f"{place}: seed is {shown(value)}", rule, "number the draws 0, 1, ...")
    return value
