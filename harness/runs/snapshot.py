"""Opens the records of a run for reading without writing anything into its folder, read-only disks included."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from harness.exceptions import StoreError
from harness.runs.folder import DATABASE, guarded

JOURNALS = ("-wal", "-journal")
"""What SQLite leaves beside a database that is being written, or whose writer was killed: committed rows, too."""

TRIES, PAUSE = 50, 0.1


@contextlib.contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection to the sound database of the run folder ``path``, as it was last committed.

    A database at rest is opened as immutable: SQLite then makes no file beside it. One with a journal has rows that
    are not in the database itself yet (its writer is at work, or was killed): both are copied to a temporary folder
    and read there, so that nothing committed is missed and nothing here is touched. Raises :class:`StoreError`.
    """
    with contextlib.ExitStack() as stack:
        with guarded(path):
            file = path / DATABASE
            rest = not _journals(file)
            if not rest:
                file = _copied(path, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="robustness-"))))
            connection = sqlite3.connect(_uri(file, immutable=rest), uri=True)
            stack.callback(connection.close)
            if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("the file is damaged (quick_check)")
        yield connection


def _uri(file: Path, immutable: bool) -> str:
    name = quote(str(file.absolute()))
    return f"file:{name}?mode=ro&immutable=1" if immutable else f"file:{name}"


def _journals(database: Path) -> list[Path]:
    """The journals that hold something."""
    found = [database.with_name(database.name + suffix) for suffix in JOURNALS]
    return [journal for journal in found if journal.is_file() and journal.stat().st_size]


def _copied(path: Path, folder: Path) -> Path:
    """A copy of database and journals that belong together: nothing was written while they were copied."""
    database = path / DATABASE
    for _ in range(TRIES):
        before = _state(database)
        for file in folder.iterdir():
            file.unlink()
        with contextlib.suppress(FileNotFoundError):  # a writer that ends removes its journal
            for file in (database, *_journals(database)):
                shutil.copyfile(file, folder / file.name)
            if _state(database) == before:
                return folder / DATABASE
        time.sleep(PAUSE)
    raise StoreError(f"run {path}", "another process does not stop writing to it", "wait until it has finished")


def _state(database: Path) -> list[tuple[str, int, int]]:
    files = [database, *_journals(database)]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
