"""Rows of a data file that is either JSONL or one JSON array of objects, each with the line it begins on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.evaluate.tasks.base import Item, read_bytes, read_json_lines, unique_items
from harness.exceptions import HarnessError
from harness.strict import once, shown

_SPACE = re.compile(r"[ \t\r\n]*")
_MARK = b"\xef\xbb\xbf"
_AGAIN = "write the file again"


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for every row of a JSONL file, or of a file that is one JSON array.

    Raises :class:`HarnessError` that names file and line for what is no object, has a name twice, or is cut off, and
    for everything that :func:`harness.evaluate.tasks.base.read_bytes` refuses.
    """
    content = read_bytes(path).removeprefix(_MARK)
    if not content.lstrip().startswith(b"["):
        return read_json_lines(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        rule = "the file must be UTF-8 without lone surrogates"
        raise HarnessError(f"{path}, line {line}: {error}", rule, _AGAIN) from None
    return _elements(text, path)


def items_in(
    data: Path | None, task: str, layout: str, item_of: Callable[[str, Mapping[str, Any]], Item]
) -> tuple[Item, ...]:
    """Return the items of the JSONL file ``data`` of ``task``, each made by ``item_of`` from its place and its row.

    Raises :class:`HarnessError` without a file, saying that ``layout`` is expected, and for an item that occurs twice.
    """
    if data is None:
        raise HarnessError(f"--task {task} without --data", "its items are those of a file", f"give {layout}")
    return unique_items([item_of(f"{data}, line {number}", row) for number, row in read_json_lines(data)], str(data))


def cluster_of(place: str, row: Mapping[str, Any]) -> str:
    """Return the cluster that ``row`` names, else nothing; raises :class:`HarnessError` for one that is no text."""
    cluster = row.get("cluster", "")
    if not isinstance(cluster, str):
        raise HarnessError(f"{place}: cluster is {shown(cluster)}", "it must be text", "correct the row")
    return cluster


def _elements(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The elements of the array that ``text`` is, decoded one by one so that each knows its line."""
    decoder = json.JSONDecoder(object_pairs_hook=once)
    place = _past_space(text, text.index("[") + 1)
    line, counted = 1, 0
    first = True
    while not text.startswith("]", place):
        if not first:
            place = _past_space(text, _after(text, place, ",", path))
        line, counted = line + text.count("\n", counted, place), place
        try:
            row, end = decoder.raw_decode(text, place)
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError) as error:  # a UnicodeError is a ValueError
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise _fault(text, path, place, f"{shown(text[place : place + 60])}: {why}") from None
        if not isinstance(row, dict):
            raise HarnessError(f"{path}, line {line}: {shown(row)}", "every row must be a JSON object", _AGAIN)
        yield line, row
        place, first = _past_space(text, end), False
    rest = _past_space(text, place + 1)
    if rest < len(text):
        raise _fault(text, path, rest, f"{shown(text[rest : rest + 60])} behind the array")
    if first:
        raise HarnessError(f"{path} has no rows", "at least one item is needed", _AGAIN)


def _after(text: str, place: int, sign: str, path: Path) -> int:
    if not text.startswith(sign, place):
        found = shown(text[place : place + 20]) if place < len(text) else "the file ends"
        raise _fault(text, path, place, f"{found} where {sign!r} or ']' belongs")
    return place + len(sign)


def _past_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def _fault(text: str, path: Path, place: int, what: str) -> HarnessError:
    line = text.count("\n", 0, place) + 1
    return HarnessError(f"{path}, line {line}: {what}", "the file must be one JSON array of objects", _AGAIN)
