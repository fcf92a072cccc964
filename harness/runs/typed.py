"""Turns JSON types into frozen dataclasses and back, strictly: no unknown field, none missing, none of another type."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

T = TypeVar("T")
WRITTEN = {"written": True}
"""Metadata of a field that is written although it is None; others that are None are left out."""
_SHOWN = 60


def from_plain(kind: type[T], data: object, place: str = "") -> T:
    """Return ``data`` (JSON types) as the dataclass ``kind``; ``place`` names it in errors.

    Fields may be of type str, int, float, bool, Any, another dataclass, ``tuple[X, ...]`` or ``Mapping[str, X]``, or of
    a union of these; a whole number stands for a float and is kept as it is. Raises ValueError naming the first field
    that is unknown, missing or of another type.
    """
    return cast(T, _read(kind, data, place))


def to_plain(value: object) -> Any:
    """Return the dataclass ``value`` as JSON types: the inverse of :func:`from_plain`."""
    if dataclasses.is_dataclass(value):
        found = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        kept = {field.name for field in dataclasses.fields(value) if field.metadata.get("written")}
        return {name: each for name, each in found.items() if each is not None or name in kept}
    if isinstance(value, Mapping):
        return {name: to_plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_plain(each) for each in value]
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read(kind: Any, data: object, place: str) -> Any:
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind):
        return _object(kind, data, place)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        wanted = [each for each in inner if each is not type(None)]
        return None if data is None and len(wanted) < len(inner) else _read(wanted[0], data, place)
    if origin is tuple:
        _check(isinstance(data, list), place, "a list", data)
        return tuple(_read(inner[0], each, f"{place}[{n}]") for n, each in enumerate(cast(list[object], data)))
    if origin is Mapping or kind is Mapping:
        _check(isinstance(data, dict), place, "an object", data)
        members = cast(dict[str, object], data).items()
        return {name: _read(inner[1], each, f"{place}.{name}".lstrip(".")) for name, each in members}
    sound = isinstance(data, int | float if kind is float else kind) and (kind is bool or not isinstance(data, bool))
    _check(sound, place, _NAMES[kind], data)
    return data


_NAMES: Mapping[Any, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _object(kind: Any, data: object, place: str) -> Any:
    _check(isinstance(data, dict), place, "an object", data)
    members = cast(dict[str, object], data)
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in members:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise ValueError(f"{_at(place, name)} is no field of it" + (f" (nearest: {near[0]})" if near else ""))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in members:
            raise ValueError(f"{_at(place, name)} is missing")
    return kind(**{name: _read(hints[name], value, _at(place, name)) for name, value in members.items()})


def _check(sound: bool, place: str, wanted: str, data: object) -> None:
    if not sound:
        raise ValueError(f"{place or 'the whole'} is {data!r:.{_SHOWN}}, not {wanted}")


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
