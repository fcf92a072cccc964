"""Reads text and JSON strictly: what is truncated, not UTF-8, or has a name twice is refused, never mended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.exceptions import CheckpointError

COPY = "copy it again"


def read_text(file: Path) -> str:
    """Return the UTF-8 text in ``file``, which may hold neither a byte-order mark nor the character NUL.

    Raises :class:`CheckpointError` naming file and rule.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        raise CheckpointError(f"file {file}", f"it cannot be read ({error.strerror or error})", COPY) from None
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"file {file}",
            f"it is not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start})",
            f"{COPY}, or save it as UTF-8",
        ) from None
    if text.startswith("\ufeff"):
        raise CheckpointError(f"file {file}", "it begins with a byte-order mark", "save it as UTF-8 without one")
    if "\0" in text:
        raise CheckpointError(f"file {file}", f"it holds a NUL character at {text.index(chr(0))}", COPY)
    return text


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in ``file``. Raises :class:`CheckpointError`, also where an object has a name twice."""
    text = read_text(file)
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"file {file}", f"unreadable JSON ({error})", COPY) from None
    if not isinstance(data, dict):
        raise CheckpointError(f"file {file}", "a JSON object was expected", COPY)
    return data


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:60]!r} is given twice")
    return found
