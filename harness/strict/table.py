"""Takes the keys of one table one by one, each of its kind and in its range, and refuses what is left over."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from harness.exceptions import HarnessError
from harness.strict.files import CORRECT, Failure
from harness.text import nearest

LARGEST = 2**63 - 1
"""What SQLite and torch hold as a whole number."""

Scalar = str | int | float | bool


def unknown_key(where: str, key: str, known: Iterable[str], failure: Failure = HarnessError) -> HarnessError:
    """Return the error for ``key``, which is none of ``known``: with the nearest of them, else with all."""
    return failure(f"{_before(where)}unknown key {shown(key)}", "nothing reads it", nearest(str(key), known))


def shown(value: object, limit: int = 60) -> str:
    """Return ``value`` as a message shows it: its ``repr``, shortened to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Table:
    """Take the keys of one table one by one; :meth:`done` refuses what is left over.

    ``where`` names the file, ``path`` the table in it (``training.optimizer``; empty: all of it) and ``way_out`` what
    the reader of an error is to do. A key without a default is needed; ``"key" in table`` says whether an optional one
    was given. Every method raises ``failure``. ``stored`` tables were written by this harness: :func:`fill` takes their
    texts and numbers as they stand (an empty text, a whole number for a float).
    """

    def __init__(
        self,
        table: Any,
        where: str,
        way_out: str = CORRECT,
        failure: Failure = HarnessError,
        path: str = "",
        stored: bool = False,
    ) -> None:
        self.where, self.way_out, self.failure, self.path, self.stored = where, way_out, failure, path, stored
        if not isinstance(table, Mapping):
            raise self.fail(shown(table), "it must be a table")
        self._left = dict(table)
        self._known: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        self._known[key] = None
        return key in self._left

    def fail(self, value: str, rule: str, way_out: str = "") -> HarnessError:
        """Return the error of this table for ``value`` and the rule that it breaks."""
        return self.failure(f"{self.before}{value}", rule, way_out or self.way_out)

    @property
    def before(self) -> str:
        """Return :attr:`place` with a colon, empty where neither file nor table was named."""
        return _before(self.place)

    @property
    def place(self) -> str:
        """Return file and table as errors name them: ``recipe r.toml, [training.optimizer]``."""
        return ", ".join(part for part in (self.where, self.path and f"[{self.path}]") if part)

    def take(self, key: str, default: Any = None) -> Any:
        """Return the raw value of ``key``."""
        self._known[key] = None
        return self._left.pop(key, default)

    def need(self, key: str, default: Any = None) -> Any:
        """Return the raw value of ``key``, which must be there unless ``default`` is."""
        if default is None and key not in self:
            raise self.fail(f"no {key}", "it is needed")
        return self.take(key, default)

    def text(self, key: str, default: str | None = None, empty: bool = False) -> str:
        """Return a text, which is not empty unless ``empty`` allows it (the default may be)."""
        value = self.need(key, default)
        if not isinstance(value, str) or not (empty or value.strip() or value == default):
            raise self.fail(f"{key} = {shown(value)}", f"it must be a text{'' if empty else ' that is not empty'}")
        return value

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """Return a text out of ``allowed``."""
        return self.one_of(key, self.text(key, default), allowed)

    def one_of(self, key: str, value: str, allowed: Collection[str]) -> str:
        """Return ``value`` where it is one of ``allowed``."""
        if value not in allowed:
            rule = f"it is one of {', '.join(allowed)}"
            raise self.fail(f"{key} = {shown(value)}", rule, nearest(value, list(allowed)))
        return value

    def texts(self, key: str, needed: bool = True) -> tuple[str, ...]:
        """Return a list of distinct texts, at least one where they are needed."""
        value = self.take(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(entry, str) and entry.strip() for entry in value):
            raise self.fail(f"{key} = {shown(value)}", "it must be a list of texts")
        if needed and not value:
            raise self.fail(f"no {key}", "at least one is needed")
        if len(set(value)) != len(value):
            raise self.fail(f"{key} = {shown(value)}", "an entry is given twice")
        return tuple(value)

    def number(self, key: str, low: float = -math.inf, high: float = math.inf, default: float | None = None) -> float:
        """Return a finite number from ``low`` to ``high``."""
        return self.in_range(key, self.need(key, default), low, high)

    def in_range(self, key: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
        """Return ``value`` where it is a finite number from ``low`` to ``high``."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise self.fail(f"{key} = {shown(value)}", "it must be a finite number")
        if not low <= value <= high:
            raise self.fail(f"{key} = {value!r}", _between(low, high))
        return float(value)

    def whole(self, key: str, low: int = 0, high: int = LARGEST, default: int | None = None) -> int:
        """Return a whole number from ``low`` to ``high``."""
        value = self.need(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            least = f" of at least {low}" if low != -LARGEST else ""
            beyond = isinstance(value, int) and value > high
            most = f"{' and' if least else ' of'} at most {high}" if beyond or high != LARGEST else ""
            raise self.fail(f"{key} = {shown(value)}", f"it must be a whole number{least}{most}")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Return a truth value."""
        value = self.need(key, default)
        if not isinstance(value, bool):
            raise self.fail(f"{key} = {shown(value)}", "it must be true or false")
        return value

    def table(self, key: str) -> Table:
        """Return the table under ``key``, an empty one where there is none; its errors name the path."""
        return self.inner(self.take(key, {}), key)

    def inner(self, table: Any, key: str) -> Table:
        """Return ``table`` as the one called ``key`` in this one."""
        return Table(table, self.where, self.way_out, self.failure, f"{self.path}.{key}".lstrip("."), self.stored)

    def tables(self, key: str, name: str = "") -> list[Table]:
        """Return the list of tables under ``key``; its errors say ``name`` (default: the key) and number."""
        found = self.take(key, [])
        if not isinstance(found, list):
            raise self.fail(key, f"it must be a list of tables, [[{key}]]")
        return [
            Table(entry, f"{self.place}, {name or key} {number}", self.way_out, self.failure)
            for number, entry in enumerate(found, 1)
        ]

    def mapping(self, key: str, allowed: Collection[str]) -> dict[str, str]:
        """Return a table of texts whose keys are all in ``allowed``."""
        inner = self.table(key)
        found = {name: inner.text(name) for name in allowed if name in inner}
        inner.done()
        return found

    def settings(self, key: str) -> dict[str, Scalar]:
        """Return a flat table of any names with texts, finite numbers and truth values."""
        inner = self.table(key)
        found = inner.rest()
        for name, value in found.items():
            if not isinstance(value, Scalar) or (isinstance(value, float) and not _finite(value)):
                raise inner.fail(f"{name} = {shown(value)}", "it must be a text, a finite number, true or false")
        return found

    def rest(self) -> dict[str, Any]:
        """Return everything that was not taken, and take it."""
        left, self._left = self._left, {}
        return left

    def done(self) -> None:
        """Raise the error for a key that nobody took, with the nearest known one."""
        for key in self._left:
            raise unknown_key(self.place, key, self._known, self.failure)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _before(where: str) -> str:
    return f"{where}: " if where else ""


def _between(low: float, high: float) -> str:
    if math.isinf(high):
        return f"it must be at least {low:g}"
    return f"it must be at most {high:g}" if math.isinf(low) else f"it must lie between {low:g} and {high:g}"
