"""Cloze: does the model go on with the very words that stand in a text?

JSONL, one item an object, in one of three layouts:

- ``text``: its last word is asked for, what stands before it is the context (LAMBADA's layout),
- ``context`` and ``answer``: the answer follows after a space,
- ``context`` and ``continuation``: that text as it stands, its space included.

Right is an answer that greedy decoding would have written, token by token; its log-likelihood stands in the record. So
lm-evaluation-harness 0.4.13 scores LAMBADA (output type ``loglikelihood``). ``cluster`` may name what an item shares
with others (a book, say); other fields are ignored.

Source: Paperno et al., The LAMBADA dataset, ACL 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.evaluate.tasks.base import Continuation, Item, ScoresTexts, item_key
from harness.evaluate.tasks.rows import cluster_of, items_in
from harness.exceptions import HarnessError
from harness.strict import shown

NAME = "cloze"
TEXT, CONTEXT, ANSWER, CONTINUATION = "text", "context", "answer", "continuation"
LAYOUTS = ({TEXT}, {CONTEXT, ANSWER}, {CONTEXT, CONTINUATION})
DELIMITER = " "


@dataclass(frozen=True)
class ClozeTask(ScoresTexts):
    """The items of the file ``data``; read once, at the first use.

    Every method that needs the items raises :class:`HarnessError` naming file and line for fields of no layout, a text
    of one word, and what is empty or no text.
    """

    name: ClassVar[str] = NAME
    scorer: ClassVar[str] = "greedy"
    floor: ClassVar[float] = 0.10
    asked_of: ClassVar[str] = "answers"
    exemplary: ClassVar[bool] = True

    data: Path | None = None

    def requests(self, item: Item) -> tuple[Continuation, ...]:
        """Return the answer behind the context of the item."""
        return (Continuation(item.question, item.solution),)

    @cached_property
    def _items(self) -> tuple[Item, ...]:
        layout = "a JSONL file with text, or with context and answer (or continuation)"
        return items_in(self.data, self.name, layout, _item)


def _item(place: str, row: Mapping[str, Any]) -> Item:
    found = row.keys() & {TEXT, CONTEXT, ANSWER, CONTINUATION}
    if found not in LAYOUTS:
        raise HarnessError(
            f"{place}: fields {', '.join(map(str, row)) or 'none'}",
            f"an item has {TEXT}, or {CONTEXT} and {ANSWER}, or {CONTEXT} and {CONTINUATION}",
            "correct the row",
        )
    for name in sorted(found):
        if not isinstance(row[name], str) or not row[name].strip():
            raise HarnessError(f"{place}: {name} is {shown(row[name])}", "it must be text", "correct the row")
    cluster = cluster_of(place, row)
    if TEXT in found:
        context, continuation = _last_word(place, row[TEXT])
    else:
        context = row[CONTEXT]
        continuation = row[CONTINUATION] if CONTINUATION in found else DELIMITER + row[ANSWER]
    return Item(item_key(NAME, context, continuation), context, continuation.strip(), continuation, cluster=cluster)


def _last_word(place: str, text: str) -> tuple[str, str]:
    """(what stands before the last space, the last word with that space)."""
    context, space, word = text.rpartition(DELIMITER)
    if not context.strip() or not word.strip():
        rule = "its last word is asked for: it must have two words, and end with one"
        raise HarnessError(f"{place}: text is {shown(text)}", rule, "correct the row")
    return context, space + word
