"""BLiMP, or minimal pairs in its layout: which of two sentences does the model find more probable?

JSONL, one pair an object: ``sentence_good``, ``sentence_bad`` and, where several paradigms are in the data, ``UID``
(the paradigm); other fields are ignored. A folder holds such files, read in the order of their names. Each sentence is
scored as lm-evaluation-harness 0.4.13 scores it: behind its prefix token, with a space before it.

Source: Warstadt et al., BLiMP, TACL 8 (2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.evaluate.tasks.base import Continuation, Item, ScoresTexts, item_key, read_json_lines, unique_items
from harness.exceptions import HarnessError
from harness.scorers.likelihood import choices_of, reference_of
from harness.strict import shown

NAME = "blimp"
GOOD, BAD, PARADIGM = "sentence_good", "sentence_bad", "UID"
SUFFIX = ".jsonl"
DELIMITER = " "
"""What stands before a sentence, as before any choice in lm-evaluation-harness."""


@dataclass(frozen=True)
class BlimpTask(ScoresTexts):
    """The pairs of ``data``, a file or a folder of files; read once, at the first use.

    Pairs of one paradigm are a cluster, where there are several paradigms. Every method that needs the items raises
    :class:`HarnessError` for data that are missing, empty, unreadable, or hold no pairs of different sentences.
    """

    name: ClassVar[str] = NAME
    scorer: ClassVar[str] = "pair"
    floor: ClassVar[float] = 0.5
    asked_of: ClassVar[str] = "sentences"

    data: Path | None = None

    def requests(self, item: Item) -> tuple[Continuation, ...]:
        """Return the good and the bad sentence, without context."""
        return tuple(Continuation("", DELIMITER + sentence) for sentence in choices_of(item.reference)[0])

    @cached_property
    def _items(self) -> tuple[Item, ...]:
        if self.data is None:
            raise HarnessError(
                f"--task {self.name} without --data",
                "its pairs are not part of the package",
                "give a JSONL file, or a folder of them, with sentence_good and sentence_bad",
            )
        rows = [_row(f"{file}, line {number}", row) for file in _files(self.data) for number, row in _lines(file)]
        several = len({paradigm for _, _, paradigm in rows}) > 1
        items = [
            Item(
                item_key(NAME, f"{good}\n{bad}", GOOD),
                f"{good}\n{bad}",
                reference_of((good, bad), 0),
                good,
                cluster=paradigm if several else "",
            )
            for good, bad, paradigm in rows
        ]
        return unique_items(items, str(self.data))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob(f"*{SUFFIX}"))
    if not found:
        raise HarnessError(f"{path} holds no {SUFFIX} file", "at least one is needed", "name the folder of the pairs")
    return found


def _lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    return list(read_json_lines(path))


def _row(place: str, row: Mapping[str, Any]) -> tuple[str, str, str]:
    """(good, bad, paradigm)."""
    good, bad = (_text(place, row, name) for name in (GOOD, BAD))
    paradigm = row.get(PARADIGM, "")
    if good == bad:
        raise HarnessError(f"{place}: both sentences are {shown(good)}", "a pair has two", "correct the row")
    if not isinstance(paradigm, str):
        raise HarnessError(f"{place}: {PARADIGM} is {shown(paradigm)}", "it must be text", "correct the row")
    return good, bad, paradigm


def _text(place: str, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        found = "missing" if value is None else shown(value)
        raise HarnessError(f"{place}: {name} is {found}", "it must be a sentence", "correct the row")
    return value
