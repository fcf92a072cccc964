"""Reads completions that were produced elsewhere, for ``harness score``.

JSONL, UTF-8, one object per line: ``completion`` (text) and ``item`` (content hash) or ``question`` (the
task's own question text, space at its ends aside), or both where they agree; optional ``level`` (fraction in
[0, 1), default 0), ``seed`` (integer from 0 to 2^63-1, which is what SQLite holds; default 0) and
``truncated`` (default false: generation ended by itself and not at a token limit). Blank lines are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evaluate.tasks.base import Item, Task, read_json_lines
from harness.exceptions import HarnessError
from harness.strict import Table, shown


@dataclass(frozen=True)
class Completion:
    """One text that a model gave for ``item`` at a noise ``level`` (fraction) and noise ``seed``."""

    item: Item
    level: float
    seed: int
    text: str
    truncated: bool


def read_completions(path: Path, task: Task) -> tuple[Completion, ...]:
    """Return all completions of the file, in file order.

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
                f"{place}: item {key[0]}, level {key[1]:g}, seed {key[2]} is on line {first} already",
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

    def find(self, place: str, row: Mapping[str, str]) -> Item:
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

    def _look_up(self, place: str, row: Mapping[str, str], name: str, table: Mapping[str, Item]) -> Item:
        value = row[name].strip()
        if value not in table:
            raise HarnessError(
                f"{place}: {name} {shown(value)} is not in the task {self.task}",
                f"it must be the {'content hash' if name == 'item' else 'text'} of one of its {len(table)} items",
                "check --task and --data",
            )
        return table[value]


def _completion(place: str, row: Mapping[str, Any], finder: _Finder) -> Completion:
    fields = Table(row, place, "correct the line")
    text = fields.text("completion", empty=True)
    truncated = fields.flag("truncated", False)
    level, seed = _level(fields), fields.whole("seed", default=0)
    named = {name: fields.text(name) for name in ("item", "question") if name in fields}
    fields.done()
    return Completion(finder.find(place, named), level, seed, text, truncated)


def _level(fields: Table) -> float:
    level = fields.number("level", default=0)
    if not 0 <= level < 1:
        raise fields.fail(f"level = {level:g}", "it must be a fraction, at least 0 and below 1", "write 0.05 for 5 %")
    return abs(level)
