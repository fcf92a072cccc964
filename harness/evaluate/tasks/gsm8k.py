"""GSM8K from a local file (JSONL or Parquet, in the original or in verl's layout) or from the hub.

Original layout: columns ``question`` and ``answer``, the worked solution that ends in ``#### N``. verl's
layout (``examples/data_preprocess/gsm8k.py`` there): ``prompt`` = list of {role, content}, which ends in
verl's instruction, ``reward_model`` = {style, ground_truth}, ``extra_info`` = {question, answer, ...}; other
columns are ignored. Both give the same items, keyed by the bare question, and the same messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.answers import MARKER, STRICT, canonical_number, gold_answer
from harness.evaluate.tasks.base import Item, ReadOnce, item_key, read_bytes, read_json_lines, unique_items
from harness.evaluate.tasks.hub import offline_without_hub
from harness.exceptions import HarnessError
from harness.strict import shown

NAME = "gsm8k"
HUB_PATH, HUB_CONFIG, HUB_SPLIT = "openai/gsm8k", "main", "test"
INSTRUCTION = 'Let\'s think step by step and output the final answer after "####".'
JSON_LINES, PARQUET = (".jsonl",), (".parquet",)
ORIGINAL_COLUMNS = ("question", "answer")
VERL_COLUMNS = ("prompt", "reward_model", "extra_info")

Rows = Iterator[tuple[str, Mapping[str, Any]]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gsm8kTask(ReadOnce):
    """The items of ``data``, or of the hub's test split where it is ``None``; read once, at the first use.

    Every method that needs the items raises :class:`HarnessError` for a file that is missing, a directory,
    empty, of another kind, unreadable, truncated, contradictory, without the columns of either layout or
    with a reference that is not a number, and where the hub cannot be reached.
    """

    name: ClassVar[str] = NAME
    scorer: ClassVar[str] = STRICT
    floor: ClassVar[float] = 0.10
    max_new_tokens: ClassVar[int] = 512

    data: Path | None = None

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return the messages of the file where it has them, else the question with verl's instruction behind it."""
        if item.prompt:
            return [{"role": role, "content": content} for role, content in item.prompt]
        return [{"role": "user", "content": f"{item.question} {INSTRUCTION}"}]

    @cached_property
    def _items(self) -> tuple[Item, ...]:
        rows = _hub_rows() if self.data is None else _file_rows(self.data)
        return _parse(rows, str(self.data or HUB_PATH))


def _file_rows(path: Path) -> Rows:
    """(place for messages, row) of a data file."""
    suffix = path.suffix.lower()
    if path.exists() and not path.is_dir() and suffix not in JSON_LINES + PARQUET:
        raise HarnessError(
            f"{path}: extension {suffix!r}",
            f"a data file ends in {' or '.join(JSON_LINES + PARQUET)}",
            "rename or convert the file",
        )
    if suffix in PARQUET:
        return _parquet_rows(path)
    return ((f"{path}, line {number}", row) for number, row in read_json_lines(path))


def _parquet_rows(path: Path) -> Rows:
    content = read_bytes(path)
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(pyarrow.BufferReader(content), page_checksum_verification=True)
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise HarnessError(
            f"{path}: {error}", "the file must be complete Parquet", "copy or convert the file again"
        ) from error
    if not rows:
        raise HarnessError(f"{path} has no rows", "at least one item is needed", "write the file again")
    return ((f"{path}, row {number}", row) for number, row in enumerate(rows, start=1))


def _hub_rows() -> Rows:
    """The hub's test split. Whatever goes wrong there has the same way out, so every exception is caught."""
    try:
        import datasets

        with offline_without_hub(datasets, HUB_PATH):
            rows = list(datasets.load_dataset(HUB_PATH, HUB_CONFIG, split=HUB_SPLIT))
    except Exception as error:
        raise HarnessError(
            f"{HUB_PATH} could not be loaded from the hub ({type(error).__name__}: {str(error)[:200]})",
            "the task needs its data",
            "give a local JSONL or Parquet file with --data FILE",
        ) from error
    return ((f"{HUB_PATH}, row {number}", row) for number, row in enumerate(rows, start=1))


def _parse(rows: Rows, source: str) -> tuple[Item, ...]:
    """The items of ``rows``; the first row's columns decide on the layout for all."""
    to_item: Callable[[str, Mapping[str, Any]], Item] | None = None
    items = []
    for place, row in rows:
        to_item = to_item or _layout(place, row)
        items.append(to_item(place, row))
    return unique_items(items, source)


def _layout(place: str, row: Mapping[str, Any]) -> Callable[[str, Mapping[str, Any]], Item]:
    if set(VERL_COLUMNS) <= set(row):
        log.info("%s: verl's layout", place)
        return _verl_item
    if set(ORIGINAL_COLUMNS) <= set(row):
        log.info("%s: the original layout", place)
        return _original_item
    raise HarnessError(
        f"{place}: columns {', '.join(map(str, row)) or 'none'}",
        f"GSM8K has {', '.join(ORIGINAL_COLUMNS)} (original) or {', '.join(VERL_COLUMNS)} (verl)",
        "name a file of either layout",
    )


def _original_item(place: str, row: Mapping[str, Any]) -> Item:
    question, solution = _text(place, row, "question"), _text(place, row, "answer")
    return _item(place, question, _gold(place, solution), solution)


def _verl_item(place: str, row: Mapping[str, Any]) -> Item:
    extra, reward = _mapping(place, row, "extra_info"), _mapping(place, row, "reward_model")
    question = _text(f"{place}, extra_info", extra, "question")
    value = reward.get("ground_truth")
    reference = canonical_number(str(value))
    if reference is None:
        raise HarnessError(f"{place}: ground_truth {shown(value)}", "the reference must be a number", "correct the row")
    solution = _text(f"{place}, extra_info", extra, "answer") if extra.get("answer") is not None else ""
    if solution and _gold(place, solution) != reference:
        raise HarnessError(
            f"{place}: ground_truth {shown(value)} but extra_info.answer ends in {_gold(place, solution)}",
            "both must be the same number",
            "correct the row",
        )
    return _item(place, question, reference, solution, _prompt(place, row.get("prompt")))


def _item(place: str, question: str, reference: str, solution: str, prompt: tuple[tuple[str, str], ...] = ()) -> Item:
    if not question.strip():
        raise HarnessError(f"{place}: the question is empty", "an item needs a question", "correct the row")
    return Item(item_key(NAME, question, reference), question, reference, solution, prompt)


def _gold(place: str, solution: str) -> str:
    """The number that a gold solution ends in."""
    reference = gold_answer(solution)
    if reference is None:
        raise HarnessError(
            f"{place}: answer ends in {shown(solution[-40:])}",
            f"it must end in '{MARKER} N' with N one number and nothing behind it",
            "correct the row",
        )
    return reference


def _prompt(place: str, messages: object) -> tuple[tuple[str, str], ...]:
    """verl's list of {role, content} as pairs."""
    if not isinstance(messages, list) or not messages or not all(isinstance(entry, Mapping) for entry in messages):
        rule = "it must be a list of at least one {role, content}"
        raise HarnessError(f"{place}: prompt {shown(messages)}", rule, "correct the row")
    where = f"{place}, prompt"
    return tuple((_text(where, entry, "role"), _text(where, entry, "content")) for entry in messages)


def _text(place: str, row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        found = "missing" if value is None else shown(value)
        raise HarnessError(f"{place}: {column} is {found}", "it must be text", "correct the row")
    return value


def _mapping(place: str, row: Mapping[str, Any], column: str) -> Mapping[str, Any]:
    value = row.get(column)
    if not isinstance(value, Mapping):
        found = "missing" if value is None else shown(value)
        raise HarnessError(f"{place}: {column} is {found}", "it must be an object", "correct the row")
    return value
