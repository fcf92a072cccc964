"""Strict reading of one TOML table: known keys only, the right types, values in range; every error is one line."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from harness.exceptions import HarnessError
from harness.text import nearest

CORRECT = "correct the registry"


class Fields:
    """The keys of a table, taken one by one; :meth:`done` refuses what is left over."""

    def __init__(self, table: Any, where: str) -> None:
        if not isinstance(table, Mapping):
            raise HarnessError(f"{where}: {table!r:.60}", "it must be a table", CORRECT)
        self.where = where
        self._left = dict(table)
        self._known: list[str] = []

    def fail(self, value: str, rule: str, way_out: str = CORRECT) -> HarnessError:
        """The error of this table."""
        return HarnessError(f"{self.where}: {value}", rule, way_out)

    def take(self, key: str, default: Any = None) -> Any:
        """The raw value of ``key``."""
        self._known.append(key)
        return self._left.pop(key, default)

    def text(self, key: str, default: str | None = None) -> str:
        """A non-empty string (the default may be empty)."""
        value = self.take(key, default)
        if value is None:
            raise self.fail(f"no {key}", "it is needed")
        if not isinstance(value, str) or (not value.strip() and value != default):
            raise self.fail(f"{key} = {value!r}", "it must be a text that is not empty")
        return value

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """A text out of ``allowed``."""
        return self.one_of(key, self.text(key, default), allowed)

    def one_of(self, key: str, value: str, allowed: Collection[str]) -> str:
        """``value`` if it is allowed."""
        if value not in allowed:
            raise self.fail(f"{key} = {value!r}", f"it is one of {', '.join(allowed)}", nearest(value, list(allowed)))
        return value

    def texts(self, key: str, needed: bool = True) -> tuple[str, ...]:
        """A list of distinct texts, at least one where needed."""
        value = self.take(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, str) and entry.strip() for entry in value):
            raise self.fail(f"{key} = {value!r}", "it must be a list of texts")
        if needed and not value:
            raise self.fail(f"no {key}", "at least one is needed")
        if len(set(value)) != len(value):
            raise self.fail(f"{key} = {value!r}", "an entry stands there twice")
        return tuple(value)

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float | None:
        """A finite number in [low, high], or the default."""
        value = self.take(key, default)
        return None if value is None else self.in_range(key, value, low, high)

    def in_range(self, key: str, value: Any, low: float, high: float) -> float:
        """``value`` as a finite number in [low, high]."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(f"{key} = {value!r}", "it must be a finite number")
        if not low <= value <= high:
            raise self.fail(f"{key} = {value!r}", f"it must lie between {low:g} and {high:g}")
        return float(value)

    def count(self, key: str, default: int | None = None) -> int | None:
        """A whole number of at least 1, or the default."""
        value = self.take(key, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise self.fail(f"{key} = {value!r}", "it must be a whole number of at least 1")
        return value

    def mapping(self, key: str, allowed: Iterable[str]) -> dict[str, str]:
        """A table of texts whose keys are all in ``allowed``."""
        table, known = self.take(key, {}), list(allowed)
        if not isinstance(table, Mapping):
            raise self.fail(f"{key} = {table!r:.60}", "it must be a table")
        for name, value in table.items():
            if name not in known:
                raise self.fail(f"unknown key {name!r} in {key}", f"it holds {', '.join(known)}", nearest(name, known))
            if not isinstance(value, str) or not value.strip():
                raise self.fail(f"{key}.{name} = {value!r}", "it must be a text that is not empty")
        return dict(table)

    def rest(self) -> dict[str, Any]:
        """Everything that was not taken, taken."""
        left, self._left = self._left, {}
        return left

    def done(self) -> None:
        """Raises for a key that nobody took."""
        for key in self._left:
            raise self.fail(f"unknown key {key!r}", f"known are {', '.join(self._known)}", nearest(key, self._known))
