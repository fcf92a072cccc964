"""The formats that ``harness import`` reads, by name, and how a file shows its own (no torch)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.evaluate.imported import inspect, lm_eval, nemo, openai, verl
from harness.evaluate.imported.rows import Read
from harness.evaluate.tasks.base import read_json_lines
from harness.exceptions import HarnessError
from harness.text import nearest

AUTO = "auto"
READERS: Mapping[str, Callable[[Path, str | None], Read]] = MappingProxyType(
    {
        lm_eval.NAME: lm_eval.read,
        inspect.NAME: inspect.read,
        nemo.NAME: nemo.read,
        verl.NAME: verl.read,
        openai.NAME: openai.read,
    }
)
"""Name -> reader. A new format is a file beside this one and a row here."""

FORMATS = (AUTO, *READERS)
_LINES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = MappingProxyType(
    {lm_eval.NAME: lm_eval.is_line, nemo.NAME: nemo.is_line, verl.NAME: verl.is_line, openai.NAME: openai.is_line}
)


def read_results(path: Path, name: str = AUTO, task: str | None = None) -> Read:
    """Return what the file or folder ``path`` of format ``name`` holds; ``auto`` finds the format.

    ``task`` chooses among several, or names what the file does not. Raises :class:`HarnessError`.
    """
    if name not in FORMATS:
        raise HarnessError(f"--format {name}", f"it is one of {', '.join(FORMATS)}", nearest(name, FORMATS))
    if not path.exists():
        raise HarnessError(f"{path}", "there is no such file or folder", "check the path")
    return READERS[format_of(path) if name == AUTO else name](path, task)


def format_of(path: Path) -> str:
    """Return the format that ``path`` shows itself to be of. Raises :class:`HarnessError` where it shows none."""
    if path.is_dir():
        if any(path.rglob("samples_*.jsonl")):
            return lm_eval.NAME
        if nemo.is_folder(path):
            return nemo.NAME
        raise _shows_none(path)
    if path.suffix == inspect.ARCHIVE:
        return inspect.NAME
    if path.suffix == ".json":
        return nemo.NAME if nemo.is_beside(path) else inspect.NAME
    _, first = next(read_json_lines(path))
    found = [name for name, shows in _LINES.items() if shows(first)]
    if len(found) != 1:
        raise _shows_none(path, json.dumps(sorted(first))[:80])
    return found[0]


def _shows_none(path: Path, keys: str = "") -> HarnessError:
    return HarnessError(
        f"{path}" + (f" (its first line has {keys})" if keys else ""),
        f"it shows none of the formats {', '.join(READERS)}",
        "name it with --format, or score completions with harness score",
    )
