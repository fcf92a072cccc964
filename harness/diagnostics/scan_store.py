"""What a scan has finished, line by line in a folder, so that the same command goes on where it was stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.exceptions import StoreError
from harness.revision import code_identity
from harness.runs.folder import LOCK, check_empty, establish, guarded
from harness.runs.machine import environment
from harness.runs.manifest import ScanManifest

LINES = "scan.jsonl"


class ScanStore:
    """Values by key. Each is appended as one line with a checksum and flushed to the disk before :meth:`add` returns;
    what a kill left of a last line is dropped. ``path`` None keeps nothing."""

    def __init__(self, path: Path | None, values: dict[str, Any]) -> None:
        self._path = path
        self._values = values

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path | None, identity: Mapping[str, Any]) -> Iterator[ScanStore]:
        """Open the folder ``path`` for one writer, new or to be resumed.

        Raises :class:`StoreError` where it belongs to a scan with another ``identity``, holds other files, is damaged
        or in use; nothing is touched then.
        """
        if path is None:
            yield cls(None, {})
            return
        check_empty(path)
        with guarded(path, "scan"):
            path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK)
        with guarded(path, "scan"):
            _acquire(lock, path)
        try:
            with guarded(path, "scan"):
                establish(path, scan_manifest(identity))
                values = _read(path / LINES)
            yield cls(path / LINES, values)
        finally:
            lock.release()

    def get(self, *key: str) -> Any:
        """Return the value of ``key``, None where there is none yet."""
        return self._values.get(_text(key))

    def add(self, value: Any, *key: str) -> None:
        """Keep ``value`` (JSON types) under ``key``."""
        self._values[_text(key)] = value
        if self._path is None:
            return
        line = json.dumps([_text(key), value], separators=(",", ":"))
        with guarded(self._path.parent, "scan"), self._path.open("ab") as file:
            file.write(f"{_checksum(line)} {line}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def scan_manifest(identity: Mapping[str, Any]) -> ScanManifest:
    """Return the manifest of a scan with ``identity``, made here and now."""
    return ScanManifest(identity=identity, measurement_key={}, environment=environment(), code=code_identity())


def _acquire(lock: FileLock, path: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"scan {path}", "another process is writing to it", "wait, or use another --out") from None


def _text(key: tuple[str, ...]) -> str:
    return json.dumps(key)


def _checksum(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    values: dict[str, Any] = {}
    for number, raw in enumerate(whole.splitlines(), start=1):
        checksum, _, line = raw.decode("utf-8", "replace").partition(" ")
        if checksum != _checksum(line):
            raise StoreError(f"{file}, line {number}", "damaged: its checksum does not fit", "use another --out")
        key, value = json.loads(line)
        values[key] = value
    if len(whole) < len(content):
        os.truncate(file, len(whole))
    return values
