"""Fills frozen dataclasses from tables, strictly: an unknown key gets the nearest known name, a wrong type its rule."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from harness.exceptions import HarnessError
from harness.spec.text import nearest

Part = TypeVar("Part")
_WORDS: Mapping[Any, tuple[str, Any]] = {
    str: ("text in quotes", str),
    bool: ("true or false", bool),
    int: ("a whole number", int),
    float: ("a number", (int, float)),
}


def fill(kind: type[Part], table: Any, where: str) -> Part:
    """Return a ``kind`` with the values of ``table``; ``where`` names the table in errors.

    Raises :class:`HarnessError` for unknown and missing keys and for values of another type.
    """
    if not isinstance(table, Mapping):
        raise HarnessError(f"{where} {table!r}", "it is a table", f"start it with [{where}]")
    hints = get_type_hints(kind)
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise HarnessError(f"unknown key {f'{where}.{key}'!r}", nearest(key, known))
    needed = [n for n, e in known.items() if e.default is MISSING and e.default_factory is MISSING]
    missing = [name for name in needed if name not in table]
    if missing:
        raise HarnessError(f"no {where}.{missing[0]}", "it has no default", f"add {missing[0]} to [{where}]")
    return kind(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if hint in _WORDS:
        return _plain(hint, value, where)
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise HarnessError(f"{where} {value!r}", "it is a list", 'write ["NAME", ...]')
        return tuple(_value(get_args(hint)[0], each, where) for each in value)
    if origin in (Union, types.UnionType):
        inner = [each for each in get_args(hint) if each is not type(None)]
        return None if value is None else fill(inner[0], value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(each, str | int | float) for each in value.values()):
            raise HarnessError(f"{where} {value!r}", "it maps names to plain values", "write key = value")
        return dict(value)
    return fill(hint, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    words, types_ = _WORDS[kind]
    if not isinstance(value, types_) or (isinstance(value, bool) and kind is not bool):
        raise HarnessError(f"{where} = {value!r}", f"it is {words}", "correct it")
    return float(value) if kind is float else value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with the values of ``above``: tables key by key, everything else replaced.

    A table that ``above`` gives as ``false`` is taken out.
    """
    found = dict(below)
    for key, value in above.items():
        if value is False and isinstance(found.get(key), Mapping):
            del found[key]
        elif isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found
