"""The options of the plugin: ``--robustness-NAME`` always, ``--NAME`` where the project's ini asks for it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.gate_options import EITHER, NUMBER, SWITCH, WHOLE, GateOption, in_pytest

PREFIX = "robustness_"
SHORT_OPTIONS = "robustness_short_options"
TAKEN = pytest.StashKey[tuple[str, ...]]()
"""The short options that another plugin or conftest has already."""


def long_name(option: GateOption) -> str:
    """Return ``--robustness-NAME``."""
    return f"--robustness-{option.name}"


def short_name(option: GateOption) -> str | None:
    """Return ``--NAME``, None for options that pytest has alone."""
    return None if option.session else f"--{option.name}"


def add_options(parser: pytest.Parser) -> None:
    """Add every row of the table under its long name, as an option and as an ini value."""
    group = parser.getgroup("robustness", "robustness of a checkpoint under numerical noise")
    for option in in_pytest():
        group.addoption(long_name(option), **_attributes(option))
        parser.addini(PREFIX + option.key, f"default of {long_name(option)}", default=None)
    parser.addini(SHORT_OPTIONS, "true: --checkpoint, --baseline, ... beside --robustness-checkpoint, ...", type="bool")


def add_short_options(config: pytest.Config, parser: pytest.Parser) -> None:
    """Add ``--NAME`` for every row whose short name is free; what is not is left to its owner and kept in the stash."""
    group = parser.getgroup("robustness")
    known = _known(parser)
    taken = []
    for option in in_pytest():
        name = short_name(option)
        if name in known:
            taken.append(name)
        elif name is not None:
            group.addoption(name, **(_attributes(option) | {"help": f"the same as {long_name(option)}"}))
    config.stash[TAKEN] = tuple(taken)


def _attributes(option: GateOption) -> dict[str, Any]:
    """What argparse is told. Paths stay texts: values travel to the workers of xdist."""
    given: dict[str, Any] = {"dest": PREFIX + option.key, "default": None, "help": option.help.replace("%", "%%")}
    if option.kind == SWITCH:
        return given | {"action": "store_true"}
    if option.kind == EITHER:
        return given | {"metavar": "true|false"}
    kinds: dict[str, type] = {WHOLE: int, NUMBER: float}
    return given | {"metavar": option.metavar, "type": kinds.get(option.kind, str)}


def _known(parser: pytest.Parser) -> set[str]:
    """Every option name that is registered so far. Pytest has no public list of them."""
    groups = [*parser._groups, parser._anonymous]
    return {name for group in groups for option in group.options for name in option.names()}
