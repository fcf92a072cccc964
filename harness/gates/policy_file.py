"""A gate policy as a TOML file: one table ``[policy]`` with the fields of :class:`GatePolicy`, nothing else.

::

    [policy]
    levels = [0, 0.05, 0.10]
    margin = 0.03
    margin_at = { "0" = 0.02, "0.10" = 0.05 }
    retention_at = { "0.05" = 0.85 }
    nats_margin = 0.05
    nats_margin_at = { "0.10" = 0.2 }
    noise_seeds = 5
    min_overlap = 0.95
    family = "fixed_sequence"
    inconclusive = "fail"
    early_stop = 0.5
    positive_control = true
    kl_margin = 0.02
    kl_margin_at = { "0.10" = 0.05 }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.gates.policy import GatePolicy, PerLevel
from harness.strict import Table, fill, read_toml

TABLE = "policy"
PER_LEVEL = {
    "margin_at": "margins",
    "retention_at": "retentions",
    "nats_margin_at": "nats_margins",
    "kl_margin_at": "kl_margins",
}
"""Name in the file -> field that holds (level, value)."""


def load_policy(path: Path) -> GatePolicy:
    """Return the policy in the file at ``path``.

    Raises :class:`HarnessError` for a file that cannot be read, unknown keys, values of another type and values that
    :class:`GatePolicy` refuses; the message names the file.
    """
    data = read_toml(path, "policy")
    if set(data) != {TABLE}:
        raise HarnessError(f"policy {path}", f"it holds {', '.join(data) or 'nothing'}", "one table [policy] is read")
    return policy_of(data[TABLE], f"policy {path}")


def policy_given(given: Mapping[str, Any], others: Sequence[str] = ()) -> GatePolicy:
    """Return the policy of the file ``given["policy"]``, or of margins, force and the options called ``others``.

    Raises :class:`HarnessError` where both are given.
    """
    own = {name: given[name] for name in ("margin", "nats_margin", *others) if given.get(name) is not None}
    own |= {"force": True} if given.get("force") else {}
    if given["policy"] is None:
        return GatePolicy(**own)
    if own:
        name = next(iter(own)).replace("_", "-")
        raise HarnessError(f"--policy {given['policy']} with --{name}", "rules come from one place", "drop one of them")
    return load_policy(given["policy"])


def policy_of(table: Mapping[str, Any], where: str = "") -> GatePolicy:
    """Return the policy with the values of ``table``, under the names of the file ``where``."""
    own = Table(table, where, path=TABLE if where else "")
    given = {field: _per_level(own, key) for key, field in PER_LEVEL.items()}
    return fill(GatePolicy, own, given=given | {"levels": _levels(own)})


def _levels(table: Table) -> tuple[float, ...]:
    levels = table.take("levels", ())
    if levels != () and (not isinstance(levels, list) or not levels):
        raise table.fail(f"levels = {levels!r}", "they are a list of numbers", "write levels = [0, 0.05]")
    return tuple(sorted({table.in_range("levels", level) for level in levels}))


def _per_level(table: Table, key: str) -> PerLevel:
    levels = table.take(key, {})
    if not isinstance(levels, dict):
        rule = "it maps levels to fractions"
        raise table.fail(f"{key} = {levels!r}", rule, f'write {key} = {{ "0.05" = 0.03 }}')
    found: dict[float, float] = {}
    for level, value in levels.items():
        try:
            number = float(level)
        except ValueError:
            raise table.fail(f"level {level!r} in {key}", "a level is a number in quotes") from None
        if number in found:
            raise table.fail(f"{key}: level {level}", "it is named twice", "keep one of them")
        found[number] = table.in_range(f'{key}."{level}"', value)
    return tuple(sorted(found.items()))
