"""A gate policy as a TOML file: one table ``[policy]`` with the fields of :class:`GatePolicy`, nothing else.

::

    [policy]
    levels = [0, 0.05, 0.10]
    margin = 0.03
    margin_at = { "0" = 0.02, "0.10" = 0.05 }
    retention_at = { "0.05" = 0.85 }
    noise_seeds = 5
    min_overlap = 0.95
    family = "fixed_sequence"
    inconclusive = "fail"
    early_stop = 0.5
    positive_control = true
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.gates.policy import GatePolicy, PerLevel
from harness.text import nearest

TABLE = "policy"
PER_LEVEL = {"margin_at": "margins", "retention_at": "retentions"}
"""Name in the file -> field that holds (level, value)."""

_PLAIN = tuple(f.name for f in fields(GatePolicy) if f.name not in (*PER_LEVEL.values(), "levels"))
KEYS = (*_PLAIN, *PER_LEVEL, "levels")


def load_policy(path: Path) -> GatePolicy:
    """The policy in the file at ``path``.

    Raises :class:`HarnessError` for a file that cannot be read, unknown keys, values of another type and values that
    :class:`GatePolicy` refuses; the message names the file.
    """
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise HarnessError(f"policy {path}", "no such file", "give a TOML file with a table [policy]") from None
    except (OSError, ValueError) as error:
        raise HarnessError(f"policy {path}", f"it is not TOML ({error})", "correct it") from None
    table = data.get(TABLE)
    if set(data) != {TABLE} or not isinstance(table, dict):
        raise HarnessError(f"policy {path}", f"it holds {', '.join(data) or 'nothing'}", "one table [policy] is read")
    try:
        return policy_of(table)
    except HarnessError as error:
        raise HarnessError(f"policy {path}: {error}") from None


def policy_given(given: Mapping[str, Any], others: Sequence[str] = ()) -> GatePolicy:
    """Return the policy of the file ``given["policy"]``, or of margin, force and the options called ``others``.

    Raises :class:`HarnessError` where both are given.
    """
    own = {name: given[name] for name in ("margin", *others) if given[name] is not None}
    own |= {"force": True} if given.get("force") else {}
    if given["policy"] is None:
        return GatePolicy(**own)
    if own:
        name = next(iter(own)).replace("_", "-")
        raise HarnessError(f"--policy {given['policy']} with --{name}", "rules come from one place", "drop one of them")
    return load_policy(given["policy"])


def policy_of(table: Mapping[str, Any]) -> GatePolicy:
    """The policy with the values of ``table``, under the names of the file."""
    for key in table:
        if key not in KEYS:
            raise HarnessError(f"unknown key {key!r}", nearest(key, KEYS))
    given: dict[str, Any] = {name: _plain(name, table[name]) for name in _PLAIN if name in table}
    for key, field in PER_LEVEL.items():
        if key in table:
            given[field] = _per_level(key, table[key])
    if "levels" in table:
        levels = table["levels"]
        if not isinstance(levels, list) or not levels:
            raise HarnessError(f"levels {levels!r}", "they are a list of numbers", "write levels = [0, 0.05]")
        given["levels"] = tuple(sorted({_number("levels", level) for level in levels}))
    return GatePolicy(**given)


def _plain(name: str, value: Any) -> Any:
    kind = next(f.type for f in fields(GatePolicy) if f.name == name)
    if "str" in str(kind):
        if not isinstance(value, str):
            raise HarnessError(f"{name} {value!r}", "it is a word in quotes")
        return value
    return value if str(kind) in ("int", "bool") else _number(name, value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise HarnessError(f"{name} {value!r}", "it is a number")
    return float(value)


def _per_level(key: str, table: Any) -> PerLevel:
    if not isinstance(table, dict):
        raise HarnessError(f"{key} {table!r}", "it maps levels to fractions", f'write {key} = {{ "0.05" = 0.03 }}')
    found = []
    for level, value in table.items():
        try:
            number = float(level)
        except ValueError:
            raise HarnessError(f"level {level!r} in {key}", "a level is a number in quotes") from None
        found.append((number, _number(key, value)))
    if len({level for level, _ in found}) < len(found):
        raise HarnessError(f"{key}", "a level is named twice", "keep one of them")
    return tuple(sorted(found))
