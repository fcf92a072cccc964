"""The run folder: its manifest, whether an evaluation may go on in it, and its errors as one line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harness.exceptions import StoreError
from harness.runs.manifest import AGAIN, READABLE, Manifest, parse_manifest
from harness.strict import reading_advice, to_plain
from harness.text import named

MANIFEST, DATABASE, LOCK = "manifest.json", "records.sqlite", ".lock"
_SHOWN = 40
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EBUSY, errno.ENAMETOOLONG)
M = TypeVar("M", bound=Manifest)


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that readers see the old file or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path: Path, content: object, sort_keys: bool = False) -> None:
    """Replace ``path`` by ``content`` (JSON types), as :func:`write_atomically` does, indented for people."""
    write_atomically(path, json.dumps(content, indent=2, sort_keys=sort_keys) + "\n")


def refuse_shelf(path: Path) -> None:
    """Raise :class:`StoreError` where ``path`` is neither a run nor a checkpoint but the folder that runs lie in."""
    if not path.is_dir() or any((path / name).is_file() for name in (MANIFEST, "config.json", "adapter_config.json")):
        return
    there = sorted(entry.name for entry in path.iterdir() if (entry / MANIFEST).is_file())
    if there:
        raise StoreError(f"folder {path}", f"it is no run but holds runs: {named(there)}", f"give {path / there[0]}")


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of the run folder ``path``; :class:`StoreError` where there is none or it is unreadable."""
    if not (path / MANIFEST).is_file():
        refuse_shelf(path)
        raise StoreError(f"run {path}", f"not a run folder: there is no {MANIFEST}", "give the --out of an evaluation")
    try:
        data = json.loads((path / MANIFEST).read_text())
        version = data["schema_version"]
    except PermissionError as error:
        rule = f"its {MANIFEST} cannot be read ({error.strerror})"
        raise StoreError(f"run {path}", rule, reading_advice(error)) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = "it has no schema_version" if isinstance(error, KeyError | TypeError) else error
        raise StoreError(f"run {path}", f"its {MANIFEST} is unreadable ({why})", AGAIN) from None
    if version not in READABLE:
        known = f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}"
        raise StoreError(f"run {path}", f"schema version {version}, this harness reads {known}", AGAIN)
    return parse_manifest(data, f"run {path}, {MANIFEST}")


def establish(path: Path, manifest: M) -> M:
    """Return the manifest in force: the one there, if it is of the same run, else the new one, written."""
    if not (path / MANIFEST).exists():
        check_empty(path)
        new = replace(manifest, sha256=None)
        write_json(path / MANIFEST, new.to_json(), sort_keys=True)
        return new
    stored = read_manifest(path)
    differing = differences(to_plain(stored.identity), to_plain(manifest.identity))
    if stored.schema_version != manifest.schema_version:
        differing.insert(0, f"schema version {stored.schema_version} there, {manifest.schema_version} now")
    if stored.kind != manifest.kind:  # nothing else of the two can be compared
        differing = [f"kind ({stored.kind} there, {manifest.kind} now)"]
    if differing or not isinstance(stored, type(manifest)):
        raise StoreError(
            f"run {path}", f"it belongs to another evaluation: {', '.join(differing)}", "use another --out"
        )
    return stored


def check_empty(path: Path) -> None:
    """Raise :class:`StoreError` where the folder ``path`` exists, is not a run and holds someone else's files.

    A manifest that was being written when its process was killed is not someone else's.
    """
    if not path.is_dir() or (path / MANIFEST).exists():
        return
    strangers = sorted(e.name for e in path.iterdir() if e.name != LOCK and not e.name.startswith(f".{MANIFEST}."))
    if strangers:
        raise StoreError(
            f"output folder {path}", f"it is not a run folder and holds files ({strangers[0]})", "use an empty one"
        )


@contextlib.contextmanager
def guarded(path: Path, what: str = "run") -> Iterator[None]:
    """Turn errors of the file system and of SQLite (full disk, corrupt file) into one clear line."""
    try:
        yield
    except sqlite3.Error as error:
        no_room = any(words in str(error) for words in ("full", "disk I/O", "readonly", "unable to open"))
        resume = "free space or fix permissions, then run the same command: it resumes"
        way_out = resume if no_room else AGAIN
        raise StoreError(f"records of {path}", f"SQLite says: {error}", way_out) from None
    except OSError as error:
        raise StoreError(f"{what} {path}", f"{error.strerror or error}", way_out_of(error)) from None


def way_out_of(error: OSError) -> str:
    """Return what helps against ``error``, met where something was to be written."""
    if error.errno in _IN_THE_WAY:
        return "choose another place: something else stands there"
    return "free space or fix permissions, then run the same command"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return ``name (value there, value now)`` of every field that differs; those of a nested object by their own
    names."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after)
        elif name == "items" and isinstance(before, list) and isinstance(after, list):
            found.append(f"items ({len(before)} there, {len(after)}{' others' * (len(before) == len(after))} now)")
        else:
            found.append(f"{name} ({before!s:.{_SHOWN}} there, {after!s:.{_SHOWN}} now)")
    return found
