"""A path given after a space is taken by pytest for a folder of tests too: its ini, its cache, its conftest.

Pytest chooses rootdir and ini before it knows the options of plugins. ``--robustness-checkpoint PATH`` then makes PATH
a candidate: the suite's own ini is lost with what it demands, and a cache is written into the checkpoint's folder.
"""

from __future__ import annotations

import inspect
import os
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from _pytest.config.findpaths import determine_setup  # what pytest itself asks; it has no public name

from harness.gate_options import in_pytest
from harness.pytest_plugin.options import SHORT_OPTIONS, long_name, short_name


def check_rootdir(config: pytest.Config) -> None:
    """Raise a usage error where a separate value of an option of ours changes the rootdir or the ini in force."""
    given = _separate_values(config)
    if not given:
        return
    own = {value for _, value in given}
    others = [arg for arg in map(str, config.known_args_namespace.file_or_dir) if arg not in own]
    root, ini, settings = _setup(config, others)[:3]
    if not config.getini(SHORT_OPTIONS) and SHORT_OPTIONS not in settings:
        given = [(name, value) for name, value in given if name.startswith("--robustness-")]
    for name, value in given:
        places = ([*others, value], [value, *others])  # the first of several folders with an ini wins
        if any(_setup(config, args)[:2] != (root, ini) for args in places):
            lost = f"{ini} would not be in force" if ini is not None else f"{root} would not be the rootdir"
            raise pytest.UsageError(
                f"{name} {value}: pytest takes a separate path for a folder of tests too, and {lost};"
                f" write {name}={value}"
            )


def _separate_values(config: pytest.Config) -> list[tuple[str, str]]:
    """(option, value) of every option of ours on the command line whose value is the next word and exists."""
    names = {long_name(option) for option in in_pytest()} | {short_name(option) for option in in_pytest()}
    words = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    return [(name, value) for name, value in pairwise(words) if name in names and _exists(config, value)]


def _exists(config: pytest.Config, value: str) -> bool:
    try:
        return (config.invocation_params.dir / value).exists()
    except (OSError, ValueError):
        return False


def _setup(config: pytest.Config, args: list[str]) -> tuple[Path, Path | None, dict[str, Any]]:
    """Rootdir, ini and its values, as pytest would find them for ``args``."""
    known = config.known_args_namespace
    asked = {
        "inifile": known.inifilename,
        "override_ini": known.override_ini,
        "args": args,
        "rootdir_cmd_arg": known.rootdir or None,
        "invocation_dir": config.invocation_params.dir,
    }
    accepted = inspect.signature(determine_setup).parameters
    root, ini, settings = determine_setup(**{name: asked[name] for name in asked if name in accepted})[:3]
    return root, ini, dict(settings)
