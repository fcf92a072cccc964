"""Verl's settings as its installed source declares them, read without importing it (an import takes ten seconds).

verl's dataclasses know more keys than its YAML files list; both count as known.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from harness.exceptions import HarnessError
from harness.installed import full_setup

CONFIGS = ("workers/config", "trainer/config", "utils/profiler", "utils/skip")


@cache
def verl_folder() -> Path:
    """Return the folder of the installed package. Raises :class:`HarnessError` without one."""
    spec = find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise HarnessError("verl", "it is not installed here", full_setup())
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def dataclass_fields() -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """Return class name -> (names of its bases, field -> annotation) for the configuration classes of verl."""
    found = {}
    for part in CONFIGS:
        for file in sorted((verl_folder() / part).glob("*.py")):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)
                    fields = {
                        each.target.id: ast.unparse(each.annotation)
                        for each in node.body
                        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                    }
                    found[node.name] = (bases, fields)
    return found


def fields_of(target: str) -> dict[str, str]:
    """Return field -> annotation of the class ``target`` (dotted) with those of its bases; empty where unknown."""
    bases, own = dataclass_fields().get(target.rpartition(".")[2], ((), {}))
    found: dict[str, str] = {}
    for base in bases:
        found |= fields_of(base)
    return found | own
