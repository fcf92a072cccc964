"""SVAMP from a local file: one-step word problems, varied so that a model has to read the question.

The published layout (Patel, Bhattamishra and Goyal 2021, NAACL, "Are NLP models really able to solve simple math word
problems?"): a JSON array, or JSONL, of objects with ``Body``, ``Question`` and ``Answer`` (a number, or one as text);
``Equation`` is what a few-shot example shows as working, ``Type`` the group of the sub-scores. Other columns are
ignored. Answers are read as GSM8K's are, and asked for with the same instruction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.answers import MARKER, STRICT, canonical_number
from harness.evaluate.tasks.base import Item, ReadOnce, item_key, unique_items
from harness.evaluate.tasks.gsm8k import INSTRUCTION
from harness.evaluate.tasks.rows import read_rows
from harness.exceptions import HarnessError
from harness.strict import shown

NAME = "svamp"
COLUMNS = ("Body", "Question", "Answer")
SUFFIXES = (".json", ".jsonl")
_WHOLE = re.compile(r"(\d)\.0+(?!\d)")
_ENDS = (".", "?", "!", ",", ";", ":")


@dataclass(frozen=True)
class SvampTask(ReadOnce):
    """The items of ``data``, read once, at the first use.

    Every method that needs the items raises :class:`HarnessError` for a file that is missing, a directory, empty, of
    another kind, truncated or contradictory, and for a row without one of :data:`COLUMNS` or whose answer is not one
    number; the row's line is named.
    """

    name: ClassVar[str] = NAME
    scorer: ClassVar[str] = STRICT
    floor: ClassVar[float] = 0.10
    max_new_tokens: ClassVar[int] = 256

    data: Path | None = None

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return one user message: the problem, and the instruction behind it."""
        return [{"role": "user", "content": f"{item.question} {INSTRUCTION}"}]

    @cached_property
    def _items(self) -> tuple[Item, ...]:
        path = self.data
        if path is None:
            raise HarnessError("--task svamp without --data", "the task needs its data", "give --data SVAMP.json")
        if path.is_file() and path.suffix.lower() not in SUFFIXES:
            rule = f"a data file of svamp ends in {' or '.join(SUFFIXES)}"
            raise HarnessError(f"{path}: extension {path.suffix!r}", rule, "rename or convert the file")
        return unique_items([_item(f"{path}, line {line}", row) for line, row in read_rows(path)], str(path))


def _item(place: str, row: Mapping[str, Any]) -> Item:
    lacking = [column for column in COLUMNS if column not in row]
    if lacking:
        rule = f"SVAMP has {', '.join(COLUMNS)}"
        raise HarnessError(f"{place}: {lacking[0]} is missing", rule, "correct the row")
    body, asked = _text(place, row, "Body"), _text(place, row, "Question")
    if not asked:
        raise HarnessError(f"{place}: Question is empty", "an item needs a question", "correct the row")
    value = row["Answer"]
    known = isinstance(value, int | float | str) and not isinstance(value, bool)
    reference = canonical_number(str(value)) if known else None
    if reference is None:
        raise HarnessError(f"{place}: Answer {shown(value)}", "the answer must be one number", "correct the row")
    question = f"{body}{'' if not body or body.endswith(_ENDS) else '.'} {asked}".strip()
    group = _text(place, row, "Type") if row.get("Type") is not None else ""
    return Item(item_key(NAME, question, reference), question, reference, _working(row, reference), group=group)


def _working(row: Mapping[str, Any], reference: str) -> str:
    """What a few-shot example answers: ``76 - 25 = 51`` where the row has an equation, and the number as asked for."""
    equation = row.get("Equation")
    end = f"{MARKER} {reference}"
    if not isinstance(equation, str) or not equation.strip():
        return end
    plain = _WHOLE.sub(r"\1", " ".join(equation.split()))
    inner = plain.removeprefix("( ").removesuffix(" )")
    plain = inner if plain.startswith("( ") and "(" not in inner and ")" not in inner else plain
    return f"{plain} = {reference}\n{end}"


def _text(place: str, row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise HarnessError(f"{place}: {column} is {shown(value)}", "it must be text", "correct the row")
    return " ".join(value.split())
