"""Makes a dataclass of a table, and back: the annotations of its fields say what each value must be."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from harness.exceptions import HarnessError
from harness.strict.files import Failure
from harness.strict.table import LARGEST, Table, shown

T = TypeVar("T")
WRITTEN: Mapping[str, bool] = {"written": True}
"""Metadata of a field that :func:`to_plain` writes although it is None; others that are None are left out."""

_NAMES: Mapping[Any, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def fill(
    kind: type[T],
    table: Table | Mapping[str, Any],
    where: str = "",
    failure: Failure = HarnessError,
    given: Mapping[str, Any] | None = None,
) -> T:
    """Return a dataclass of type ``kind`` with the values of ``table``: the names of its fields, and no others.

    The annotations say what a value must be: ``str``, ``int``, ``float`` (finite), ``bool``, ``X | None`` (may be left
    out), ``tuple[X, ...]`` (a list), ``Mapping[str, X]`` (a table of any names), ``Literal`` and other dataclasses
    (tables of their own). A field without a default is needed. What ``kind`` itself refuses is reported with the place.
    ``given`` holds the values of fields that the caller has read by itself, which are no keys of the table. A
    ``stored`` table (see :class:`Table`) comes back from :func:`to_plain` exactly as it was.
    """
    own = table if isinstance(table, Table) else Table(table, where, failure=failure)
    hints = _hints(kind)  # type: ignore[arg-type]
    ready = dict(given or {})
    fields = [field for field in dataclasses.fields(kind) if field.name not in ready]  # type: ignore[arg-type]
    raw = {field.name: own.take(field.name) for field in fields if field.name in own}
    own.done()
    for field in fields:
        if field.name not in raw and field.default is field.default_factory is dataclasses.MISSING:
            own.need(field.name)
    ready |= {name: _value(hints[name], own, name, value) for name, value in raw.items()}
    try:
        return kind(**ready)
    except HarnessError as error:
        raise own.failure(f"{own.before}{error}") from None


def _value(hint: Any, own: Table, key: str, value: Any) -> Any:
    """``value`` as the annotation ``hint`` asks for it."""
    if hint is Any:  # for its owner to read
        return value
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _one_of_several(inner, own, key, value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise own.fail(f"{key} = {shown(value)}", "it must be a list")
        return tuple(_value(inner[0], own, f"{key}[{number}]", each) for number, each in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return fill(hint, own.inner(value, key))  # type: ignore[arg-type]
    if origin is not None and origin is not typing.Literal:  # a mapping
        entries = own.inner(value, key)
        return {name: _value(inner[1], entries, name, each) for name, each in entries.rest().items()}
    return _scalar(hint, own, key, value)


def _scalar(hint: Any, own: Table, key: str, value: Any) -> Any:
    if own.stored:
        sound = isinstance(value, int | float if hint is float else hint) and isinstance(value, bool) == (hint is bool)
        if not sound:
            raise own.fail(f"{key} = {shown(value)}", f"it must be {_NAMES[hint]}")
        return value
    single = Table({key: value}, own.where, own.way_out, own.failure, own.path)
    if typing.get_origin(hint) is typing.Literal:
        return single.choice(key, typing.get_args(hint))
    if hint is int:
        return single.whole(key, -LARGEST)
    return {str: single.text, float: single.number, bool: single.flag}[hint](key)  # type: ignore[operator]


def _one_of_several(kinds: Sequence[Any], own: Table, key: str, value: Any) -> Any:
    """``value`` as one of ``kinds``: None for what is left out, or a scalar of any of them."""
    left = [kind for kind in kinds if kind is not type(None)]
    if value is None and len(left) < len(kinds):
        return None
    if len(left) == 1:
        return _value(left[0], own, key, value)
    if type(value) is int and int not in left and float in left:
        return float(value)
    if type(value) not in left or (isinstance(value, float) and not math.isfinite(value)):
        names = {**_NAMES, float: "a finite number"}
        rule = f"it must be {' or '.join(names.get(kind, str(kind)) for kind in left)}"
        raise own.fail(f"{key} = {shown(value)}", rule)
    return value


def to_plain(value: object) -> Any:
    """Return the dataclass ``value`` as JSON types, without fields that are None: the inverse of :func:`fill`."""
    if dataclasses.is_dataclass(value):
        found = {field: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {f.name: each for f, each in found.items() if each is not None or f.metadata.get("written")}
    if isinstance(value, Mapping):
        return {name: to_plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_plain(each) for each in value]
    return value


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
