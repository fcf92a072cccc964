"""Multiple choice from any local JSONL file: which of the given choices does the model find most probable?

One item an object: ``choices`` (at least two different texts), ``answer`` (the index of the right one from 0, or its
text, or its letter, A for the first) and what comes before a choice, either

- ``question``: then the model is given ``Question: ...``, a line break and ``Answer:``, or
- ``context``: then it is given that text as it stands (empty: nothing but the prefix token), as in cloze tasks.

A choice follows after a space. ``cluster`` may name what an item shares with others (a passage, say); other fields are
ignored. That is how lm-evaluation-harness asks ARC; give ``context`` where a task asks otherwise.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.evaluate.tasks.base import Continuation, Item, ScoresTexts, item_key
from harness.evaluate.tasks.rows import cluster_of, items_in
from harness.exceptions import HarnessError
from harness.scorers.likelihood import choices_of, reference_of
from harness.strict import shown

NAME = "choice"
QUESTION, CONTEXT = "question", "context"
DELIMITER = " "


@dataclass(frozen=True)
class ChoiceTask(ScoresTexts):
    """The items of the file ``data``; read once, at the first use.

    ``floor`` is the accuracy of guessing. Every method that needs the items raises :class:`HarnessError` naming file
    and line for choices that are missing or repeated, an answer that is none of them, and text that is empty.
    """

    name: ClassVar[str] = NAME
    scorer: ClassVar[str] = "choice"
    asked_of: ClassVar[str] = "choices"

    data: Path | None = None

    @property
    def floor(self) -> float:
        """The share of right answers of guessing: the mean of 1 / number of choices (fraction)."""
        chances = [1 / len(choices_of(item.reference)[0]) for item in self._items]
        return sum(chances) / len(chances)

    def requests(self, item: Item) -> tuple[Continuation, ...]:
        """Return each choice behind the context of the item."""
        (_, context), *_ = item.prompt
        return tuple(Continuation(context, DELIMITER + choice) for choice in choices_of(item.reference)[0])

    @cached_property
    def _items(self) -> tuple[Item, ...]:
        layout = "a JSONL file with question (or context), choices and answer"
        return items_in(self.data, self.name, layout, _item)


def _item(place: str, row: Mapping[str, Any]) -> Item:
    if (QUESTION in row) == (CONTEXT in row):
        raise HarnessError(
            f"{place}: fields {', '.join(map(str, row)) or 'none'}",
            f"an item has either {QUESTION} or {CONTEXT}",
            "correct the row",
        )
    own = row[QUESTION] if QUESTION in row else row[CONTEXT]
    if not isinstance(own, str) or (QUESTION in row and not own.strip()):
        name = QUESTION if QUESTION in row else CONTEXT
        raise HarnessError(f"{place}: {name} is {shown(own)}", "it must be text", "correct the row")
    choices = _choices(place, row.get("choices"))
    answer = _answer(place, row.get("answer"), choices)
    cluster = cluster_of(place, row)
    context = f"Question: {own}\nAnswer:" if QUESTION in row else own
    question = "\n".join((own or "(no context)", *(f"- {choice}" for choice in choices)))
    reference = reference_of(choices, answer)
    key = item_key(NAME, context, reference)
    return Item(key, question, reference, choices[answer], (("context", context),), cluster)


def _choices(place: str, found: object) -> tuple[str, ...]:
    sound = isinstance(found, list) and len(found) > 1 and all(isinstance(each, str) and each.strip() for each in found)
    if not sound or not isinstance(found, list):
        told = "missing" if found is None else shown(found)
        rule = "they must be a list of at least two texts that are not empty"
        raise HarnessError(f"{place}: choices are {told}", rule, "correct the row")
    if len(set(found)) < len(found):
        raise HarnessError(f"{place}: choices are {shown(found)}", "no two may be equal", "correct the row")
    return tuple(found)


def _answer(place: str, found: object, choices: Sequence[str]) -> int:
    """The index of the right choice: given as such, by its text, or by its letter."""
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < len(choices):
        return found
    if isinstance(found, str) and found in choices:
        return choices.index(found)
    if isinstance(found, str) and len(found) == 1 and found in string.ascii_uppercase[: len(choices)]:
        return string.ascii_uppercase.index(found)
    told = "missing" if found is None else shown(found)
    rule = f"it must be an index from 0 to {len(choices) - 1}, the text of a choice, or its letter"
    raise HarnessError(f"{place}: answer is {told}", rule, "correct the row")
