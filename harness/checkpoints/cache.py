"""Folders made once and kept under a name that is a hash of all they were made from.

An entry appears in one step, complete or not at all; processes that want the same one wait for each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError

from harness.checkpoints.folder import fingerprint_settings, fingerprint_weights
from harness.exceptions import CheckpointError
from harness.strict import read_object

VARIABLE = "HARNESS_CACHE"
"""The environment variable that names another folder for converted checkpoints."""

NOTE = "harness.json"
"""What is kept beside an entry: how it was made, and the fingerprints that it must have."""

NAME_DIGITS = 32


def cache_folder() -> Path:
    """Return ``$HARNESS_CACHE``, else ``robustness-harness/checkpoints`` under ``$XDG_CACHE_HOME`` (default
    ``~/.cache``)."""
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robustness-harness" / "checkpoints"


def content_key(*parts: str) -> str:
    """Return 32 hex digits of SHA-256 over ``parts``, each of which keeps to itself."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_DIGITS]


def kept(
    cache: Path, name: str, make: Callable[[Path], Mapping[str, Any]], *, weights: bool = True
) -> tuple[Path, dict[str, Any]]:
    """Return the entry ``name`` of ``cache`` and its note; ``make(folder)`` fills a new one and returns what to note of
    it.

    The note gets the fingerprints of what was made (``weights=False``: of its settings alone), and an entry that no
    longer has them is refused. Raises :class:`CheckpointError`, also where the disk is full or may not be written.
    """
    target = cache / name
    if not (target / NOTE).is_file():
        with _one_line(cache):
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f"{name}.lock"):
                if not (target / NOTE).is_file():  # another process may have made it meanwhile
                    _make(target, make, weights)
    note = read_object(target / NOTE)
    if note.get("fingerprints") != fingerprints_of(target, weights):
        raise CheckpointError(
            f"converted checkpoint {target}", "it is not what was put there", f"remove {target}: it is made again"
        )
    return target, note


def _make(target: Path, make: Callable[[Path], Mapping[str, Any]], weights: bool) -> None:
    """Under the lock: whatever stands in the way was left by a process that was killed."""
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    place(target, make, weights)


def place(target: Path, make: Callable[[Path], Mapping[str, Any]], weights: bool = True) -> None:
    """Make the folder ``target`` in one step: ``make(folder)`` fills another beside it and returns what to note of it.

    The note gets the fingerprints of what was made. Whatever is raised, also Ctrl-C, nothing is left; :class:`OSError`
    where something stands at ``target``.
    """
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        note = dict(make(folder))
        note["fingerprints"] = fingerprints_of(folder, weights)
        (folder / NOTE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n")
        for file in folder.rglob("*"):
            _flush(file)
        folder.chmod(0o755)
        os.replace(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _flush(file: Path) -> None:
    if file.is_file():
        file.chmod(0o644)
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def fingerprints_of(folder: Path, weights: bool = True) -> dict[str, str]:
    """Return the fingerprints of the settings in ``folder`` and, where asked for, of its weights."""
    found = {"settings": fingerprint_settings(folder)}
    return found | ({"weights": fingerprint_weights(folder)} if weights else {})


@contextlib.contextmanager
def _one_line(cache: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cache {cache} of converted checkpoints",
            f"{getattr(error, 'strerror', None) or error}",
            f"free space or fix permissions, or name another folder in {VARIABLE}",
        ) from None
