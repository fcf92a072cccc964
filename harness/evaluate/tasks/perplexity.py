"""Perplexity of any text: each document is scored as a whole, in windows where it is longer than the model's context.

A ``.jsonl`` file has one document an object, its ``text`` (and ``cluster``, what it shares with others). In any other
file empty lines stand between documents. Every document is scored behind the prefix token, by windows as in
lm-evaluation-harness 0.4.13 (``loglikelihood_rolling``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from harness.evaluate.tasks.base import (
    Continuation,
    Item,
    ScoresTexts,
    item_key,
    read_bytes,
    read_json_lines,
    unique_items,
)
from harness.exceptions import HarnessError
from harness.scorers.perplexity import PERPLEXITY, lengths_of
from harness.strict import shown


@dataclass(frozen=True)
class PerplexityTask(ScoresTexts):
    """The documents of the file ``data``; read once, at the first use.

    Every method that needs them raises :class:`HarnessError` for a file that is missing, empty or not UTF-8, and,
    naming file and line, for a document without text.
    """

    name: ClassVar[str] = PERPLEXITY
    scorer: ClassVar[str] = PERPLEXITY
    floor: ClassVar[float] = 0.0

    data: Path | None = None

    def requests(self, item: Item) -> tuple[Continuation, ...]:
        """Return the whole document."""
        return (Continuation("", item.question, rolling=True),)

    @cached_property
    def _items(self) -> tuple[Item, ...]:
        if self.data is None:
            raise HarnessError(
                f"--task {self.name} without --data",
                "its documents are those of a file",
                'give a text file with empty lines between documents, or a JSONL file with "text"',
            )
        documents = _rows(self.data) if self.data.suffix.lower() == ".jsonl" else _parts(self.data)
        items = [
            Item(item_key(self.name, text, ""), text, lengths_of(text), "", cluster=cluster)
            for text, cluster in documents
        ]
        return unique_items(items, str(self.data))


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    for number, row in read_json_lines(path):
        place = f"{path}, line {number}"
        text, cluster = row.get("text"), row.get("cluster", "")
        if not isinstance(text, str) or not text.strip():
            found = "missing" if text is None else shown(text)
            raise HarnessError(f"{place}: text is {found}", "a document has text", "correct the row")
        if not isinstance(cluster, str):
            raise HarnessError(f"{place}: cluster is {shown(cluster)}", "it must be text", "correct the row")
        yield text, cluster


def _parts(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise HarnessError(f"{path}: {error}", "the file must be UTF-8", "write the file again") from None
    for part in re.split(r"\n(?:[ \t]*\n)+", text):
        if part.strip():
            yield part.strip("\n"), ""
