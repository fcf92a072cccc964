"""Reads whole files: UTF-8 text, one JSON object, TOML."""

from __future__ import annotations

import errno
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.exceptions import CheckpointError, HarnessError

COPY, CORRECT, PATH = "copy it again", "correct it", "check the path"
Failure = type[HarnessError]


def read_text(file: Path, what: str = "file", failure: Failure = CheckpointError, way_out: str = COPY) -> str:
    """Return the UTF-8 text in ``file``, which may hold neither a byte-order mark nor the character NUL.

    Raises ``failure`` naming file and rule; ``what`` stands before the name of the file.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        rule = f"it cannot be read ({error.strerror or error})"
        raise failure(f"{what} {file}", rule, reading_advice(error, COPY if way_out == COPY else PATH)) from None
    except UnicodeDecodeError as error:
        raise failure(
            f"{what} {file}",
            f"it is not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start})",
            f"{way_out}, or save it as UTF-8",
        ) from None
    if text.startswith("\ufeff"):
        raise failure(f"{what} {file}", "it begins with a byte-order mark", "save it as UTF-8 without one")
    if "\0" in text:
        raise failure(f"{what} {file}", f"it holds a NUL character at {text.index(chr(0))}", way_out)
    return text


def reading_advice(error: OSError, otherwise: str = PATH) -> str:
    """Return what helps against ``error``, met where a file was to be read."""
    return "check its permissions" if error.errno in (errno.EACCES, errno.EPERM) else otherwise


def read_object(file: Path, way_out: str = COPY) -> dict[str, Any]:
    """Return the JSON object in ``file``. Raises :class:`CheckpointError`, also where an object has a name twice."""
    text = read_text(file, way_out=way_out)
    try:
        data = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"file {file}", f"unreadable JSON ({error})", way_out) from None
    if not isinstance(data, dict):
        raise CheckpointError(f"file {file}", "a JSON object was expected", way_out)
    return data


def read_toml(file: Path, what: str = "file", failure: Failure = HarnessError) -> dict[str, Any]:
    """Return the content of the TOML file ``file``. Raises ``failure``; ``what`` stands before the file's name."""
    text = read_text(file, what, failure, CORRECT)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise failure(f"{what} {file}", f"it is not valid TOML ({error})", CORRECT) from None


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of ``pairs``: ``object_pairs_hook`` of a JSON reader. Raises ValueError for a name twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:60]!r} is given twice")
    return found
