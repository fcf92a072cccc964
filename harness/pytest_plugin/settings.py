"""Which value holds: command line before marker before ini before ``[tool.robustness]`` before built in (no torch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoints.there import hub_name
from harness.exceptions import HarnessError
from harness.gate_options import PATH, SWITCH, GateOption, in_pytest, names, of_marker, unknown
from harness.pytest_plugin.options import PREFIX, SHORT_OPTIONS
from harness.strict import Table, read_toml, unknown_key

TABLE = "robustness"
ON_A_HUB = ("checkpoint", "base")
"""Options whose path may be a name on a hub instead."""
HOW_TO_RUN = ("baselines_dir", "adapter", "batch_size", "workers", "timeout", "dir")
"""Rows whose built-in value holds whatever the baseline says; the others are the baseline's where there is one."""

RULES = ("margin", "nats_margin", "force", "min_retention", "early_stop", "across")
"""Rows that a policy file replaces."""

MARKER = 2
"""Place of the marker among the sources; what stands before it is told by who runs the test."""

Given = dict[str, Any]
SETTINGS = pytest.StashKey["Settings"]()


@dataclass(frozen=True)
class Settings:
    """What the project's files give, and how to join it with command line and marker."""

    config: pytest.Config
    ini: Mapping[str, Any]
    table: Mapping[str, Any]

    def given(self, marker: Mapping[str, Any] | None = None, **call: Any) -> Given:
        """Return every row's value by key, None where nobody gives one and nothing is built in.

        ``call`` is what the test itself says, and comes first. A policy file replaces the rules of what comes after it.
        Raises :class:`HarnessError` for values of another kind.
        """
        found: Given = {}
        ranks: dict[str, int] = {}
        for option in in_pytest():
            for rank, (source, value) in enumerate(self._sources(option, marker or {}, call)):
                if value is not None:
                    found[option.key], ranks[option.key] = self._located(option, option.read(value, source), rank), rank
                    break
            else:
                found[option.key] = self._built_in(option)
        if "policy" in ranks:
            found |= {key: None for key in RULES if ranks.get(key, 0) > ranks["policy"]}
        return found

    def _sources(
        self, option: GateOption, marker: Mapping[str, Any], call: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        yield option.key, call.get(option.key)
        yield f"--robustness-{option.name}", self.config.getoption(PREFIX + option.key)
        yield f"robustness({option.key}=...): {option.key}", marker.get(option.key)
        yield f"{self.config.inipath}: {PREFIX}{option.key}", self.ini.get(option.key)
        yield f"[tool.{TABLE}] {option.key}", self.table.get(option.key)

    def _built_in(self, option: GateOption) -> Any:
        if option.kind == SWITCH:
            return option.default
        if option.key not in HOW_TO_RUN:
            return None
        value = option.read(option.default, option.key)
        return self._located(option, value, MARKER) if option.key == "baselines_dir" else value

    def _located(self, option: GateOption, value: Any, rank: int) -> Any:
        """A path as seen from where it was written: the command line's folder, or the project's."""
        base = self.config.invocation_params.dir if rank < MARKER else self.config.rootpath
        if (option.kind != PATH and not option.file) or base == Path.cwd():
            return value
        if option.key in ON_A_HUB and hub_name(str(value), base) is not None:
            return value
        path = base / value
        return type(value)(path) if path.exists() or (option.kind == PATH and rank != MARKER) else value


def read_settings(config: pytest.Config) -> Settings:
    """Return the settings of this run. Raises a usage error for unknown keys, with the nearest name, and unreadable
    files."""
    known = {PREFIX + key for key in names(in_pytest())} | {SHORT_OPTIONS}
    try:
        for key in _ini_keys(config):
            if key.startswith(PREFIX) and key not in known:
                raise unknown(f"{config.inipath}: {key}", key, sorted(known))
        ini = {option.key: config.getini(PREFIX + option.key) for option in in_pytest()}
        settings = Settings(config, ini, _table(config.rootpath / "pyproject.toml"))
        settings.given()
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None
    return settings


def marker_of(item: pytest.Item) -> dict[str, Any]:
    """Return the arguments of the item's ``robustness`` markers, the closest first.

    Raises :class:`HarnessError` for positional arguments, unknown keywords and values of another kind.
    """
    found: dict[str, Any] = {}
    for marker in item.iter_markers(TABLE):
        if marker.args:
            raise HarnessError(
                f"{item.nodeid}: robustness({', '.join(map(repr, marker.args))})",
                "the marker has no positional arguments",
                "name them, as in task='arith'",
            )
        for key, value in marker.kwargs.items():
            option = next((option for option in of_marker() if option.key == key), None)
            if option is None:
                raise unknown(f"{item.nodeid}: robustness({key}=...)", key, names(of_marker()))
            option.read(value, f"{item.nodeid}: robustness({key}=...): {key}")
            found.setdefault(key, value)
    return found


def _ini_keys(config: pytest.Config) -> list[str]:
    """The keys of the ini in force; the public name of their mapping warns from pytest 9 on."""
    known = getattr(config, "_inicfg", None)
    return list(config.inicfg if known is None else known)


def _table(path: Path) -> dict[str, Any]:
    """``[tool.robustness]`` of the project's ``pyproject.toml``, keys with ``_``; empty where there is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    if TABLE.encode() not in content:
        return {}
    own = Table(read_toml(path), str(path)).table("tool").table(TABLE)
    found, known = own.rest(), names(in_pytest())
    for key in found:
        if key.replace("-", "_") not in known:
            raise unknown_key(own.place, key, known)
    return {key.replace("-", "_"): value for key, value in found.items()}
