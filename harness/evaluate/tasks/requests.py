"""Requests that another program made: ``--task requests --data FILE``. They are answered, and judged by nobody here.

JSONL, all lines of one kind. ``{"requests": [[CONTEXT, CONTINUATION], ...]}``: the log-likelihoods of continuations;
those of one line share their draws of noise. ``{"text": TEXT}``: the log-likelihood of a whole text, in windows where
it is long. ``{"prompt": TEXT, "until": [TEXT, ...], "max_tokens": N}``: an answer, up to a text or so many tokens;
these two are the same on every line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.evaluate.tasks.base import Continuation, Item, ReadOnce, ScoresTexts, Task, item_key, read_json_lines
from harness.exceptions import HarnessError
from harness.scorers.perplexity import PERPLEXITY, lengths_of
from harness.scorers.unscored import UNSCORED
from harness.strict import shown

NAME = "requests"
REQUESTS, TEXT, PROMPT = "requests", "text", "prompt"
KINDS = (REQUESTS, TEXT, PROMPT)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ScoredRequests(ScoresTexts):
    """Continuations, or whole texts: ``asked`` holds those of each of the items ``read``, by key."""

    name: ClassVar[str] = NAME
    scorer: ClassVar[str] = PERPLEXITY
    floor: ClassVar[float] = 0.0

    read: tuple[Item, ...]
    asked: Mapping[str, tuple[Continuation, ...]]

    @property
    def _items(self) -> tuple[Item, ...]:
        return self.read

    def requests(self, item: Item) -> tuple[Continuation, ...]:
        """Return what is asked of ``item``."""
        return self.asked[item.key]


@dataclass(frozen=True)
class Prompts(ReadOnce):
    """Prompts that are continued, up to one of the texts ``until`` or ``max_new_tokens``."""

    name: ClassVar[str] = NAME
    scorer: ClassVar[str] = UNSCORED
    floor: ClassVar[float] = 0.0
    chat_template: ClassVar[bool] = False
    verbatim: ClassVar[bool] = True

    read: tuple[Item, ...]
    until: tuple[str, ...]
    max_new_tokens: int

    @property
    def _items(self) -> tuple[Item, ...]:
        return self.read

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return the prompt of ``item`` as one message of a user."""
        return [{"role": "user", "content": item.question}]


def requests_task(data: Path | None) -> Task:
    """Return the task whose requests stand in the file ``data``.

    Raises :class:`HarnessError` for a file that is missing, empty or of another form, and for a request that
    stands in two lines.
    """
    if data is None:
        raise HarnessError(f"--task {NAME} without --data", "its requests stand in a file", "give --data FILE")
    rows = [(f"{data}, line {number}", row) for number, row in read_json_lines(data)]
    kind = next((each for each in KINDS if each in rows[0][1]), REQUESTS)
    for place, row in rows:
        wrong = _fault(kind, row)
        if wrong:
            raise HarnessError(f"{place}: {shown(row)}", wrong, "correct the line")
    items = [item_of(row) for _, row in rows]
    seen: set[str] = set()
    for (place, _), item in zip(rows, items, strict=True):
        if item.key in seen:
            raise HarnessError(f"{place}: its request stands in a line before", "each is asked once", "remove one")
        seen.add(item.key)
    if kind != PROMPT:
        asked = {item.key: _continuations(row) for item, (_, row) in zip(items, rows, strict=True)}
        return ScoredRequests(tuple(items), asked)
    settings = {json.dumps([row["until"], row["max_tokens"]]) for _, row in rows}
    if len(settings) > 1:
        raise HarnessError(f"{data}", "until and max_tokens must be the same on every line", "use several files")
    return Prompts(tuple(items), tuple(rows[0][1]["until"]), rows[0][1]["max_tokens"])


def item_of(row: Row) -> Item:
    """Return the item of a line, whose key is a hash of its content: what is asked, and of an answer what ends it."""
    if PROMPT in row:
        reference = _written([row["until"], row["max_tokens"]])
        return Item(item_key(NAME, row[PROMPT], reference), row[PROMPT], reference, "")
    asked = _continuations(row)
    question = row[TEXT] if TEXT in row else _written([[each.context, each.continuation] for each in asked])
    reference = lengths_of("".join(each.continuation for each in asked))
    return Item(item_key(NAME, question, reference), question, reference, "")


def written(rows: Iterable[Row]) -> str:
    """Return the file of ``rows``, each once, in an order that does not depend on theirs."""
    return "".join(f"{line}\n" for line in sorted({_written(row) for row in rows}))


def _written(data: object) -> str:
    return json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _continuations(row: Row) -> tuple[Continuation, ...]:
    if TEXT in row:
        return (Continuation("", row[TEXT], rolling=True),)
    return tuple(Continuation(context, continuation) for context, continuation in row[REQUESTS])


def _fault(kind: str, row: Row) -> str:
    """What keeps a line from being one of its ``kind``, empty where nothing does."""
    if kind == TEXT:
        return _field(row, {TEXT: _text}, "a text")
    if kind == REQUESTS:
        return _field(row, {REQUESTS: _pairs}, "pairs of a context and a continuation, none of them twice")
    fields = {PROMPT: _text, "until": _texts, "max_tokens": _count}
    return _field(row, fields, "a prompt, texts that end it and a number of tokens")


def _field(row: Row, fields: Mapping[str, Callable[[Any], bool]], wanted: str) -> str:
    sound = set(row) == set(fields) and all(test(row[name]) for name, test in fields.items())
    return "" if sound else f"it must have {', '.join(fields)} and nothing else: {wanted}"


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _pairs(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(_pair(each) for each in value) and len({tuple(each) for each in value}) == len(value)


def _pair(value: Sequence[Any]) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value) and bool(value[1])
    )
