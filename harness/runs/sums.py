"""A checksum of every table of a run's database, kept up in the transaction of each change.

The sum of a table adds up the SHA-256 of its rows modulo 2^256, so that a row may come, change or go without reading
the others. Triggers do it, for every table that there is and all of its columns: none can be forgotten. Against
accidents, partial copies and editing by hand; who changes rows and repairs the sums is not found.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

TABLE = "sums"
SCHEMA = f"CREATE TABLE IF NOT EXISTS {TABLE} (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, sum TEXT NOT NULL);"
EMPTY = f"{0:064x}"
_MODULUS = 1 << 256


def prepare(connection: sqlite3.Connection) -> None:
    """Have every row that ``connection`` adds, changes or removes from now on, in any table, change that table's sum.

    Tables without a sum get one; they must be empty (:func:`check`).
    """
    connection.create_function("row_digest", -1, row_digest, deterministic=True)
    connection.create_function("sum_of", 3, _moved, deterministic=True)
    connection.execute("PRAGMA recursive_triggers=ON")  # without it a replaced row goes without a trigger
    names = [(name, EMPTY) for name in table_columns(connection)]
    with connection:
        connection.executemany(f"INSERT OR IGNORE INTO {TABLE} VALUES (?, 0, ?)", names)
    for name, _ in names:
        for event, rows, old, new in (
            ("INSERT", "+ 1", "", "NEW"),
            ("DELETE", "- 1", "OLD", ""),
            ("UPDATE", "", "OLD", "NEW"),
        ):
            connection.execute(_trigger(connection, name, event, rows, old, new))


def check(connection: sqlite3.Connection, whole: bool = True) -> None:
    """Raise :class:`ValueError` naming the first table whose rows are not those that were stored.

    With ``whole`` every table must have a sum; without, only those that hold rows (a folder that was just begun).
    """
    stored = _stored(connection)
    there = table_columns(connection)
    for name in stored:
        if name not in there:
            raise ValueError(f"table {name} is gone")
    for name, columns in there.items():
        found = _sum(connection, name, columns)
        if name not in stored and (whole or found[0]):
            raise ValueError(f"table {name} has no checksum")
        if found != stored.get(name, (0, EMPTY)):
            raise ValueError(f"the checksum of table {name} does not fit: {found[0]} rows, {stored[name][0]} stored")


def table_columns(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """Name -> columns of every table but that of the sums."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"
    ).fetchall()
    return {
        name: tuple(row[1] for row in connection.execute(f'PRAGMA table_info("{name}")'))
        for (name,) in names
        if name != TABLE
    }


def row_digest(label: str, *values: Any) -> str:
    """Return 64 hex digits of SHA-256 over the ``values`` of a row; ``label`` names the table and its columns."""
    return hashlib.sha256(repr((label, values)).encode()).hexdigest()


def _label(name: str, columns: Sequence[str]) -> str:
    return " ".join((name, *columns))


def _moved(total: str, old: str | None, new: str | None) -> str:
    """``total`` without the row ``old`` and with the row ``new``, each the digest of one or None."""
    value = int(total, 16) - int(old or "0", 16) + int(new or "0", 16)
    return f"{value % _MODULUS:064x}"


def _trigger(connection: sqlite3.Connection, name: str, event: str, rows: str, old: str, new: str) -> str:
    columns = table_columns(connection)[name]
    label = _label(name, columns).replace("'", "''")

    def digest(row: str) -> str:
        values = ", ".join(f'{row}."{column}"' for column in columns)
        return f"row_digest('{label}', {values})" if row else "NULL"

    return (
        f'CREATE TEMP TRIGGER "sum_{event}_{name}" AFTER {event} ON main."{name}" BEGIN '
        f"UPDATE {TABLE} SET rows = rows {rows}, sum = sum_of(sum, {digest(old)}, {digest(new)}) "
        f"WHERE name = '{name}'; END"
    )


def _stored(connection: sqlite3.Connection) -> dict[str, tuple[int, str]]:
    there = connection.execute("SELECT EXISTS (SELECT * FROM sqlite_master WHERE name = ?)", (TABLE,)).fetchone()[0]
    if not there:
        return {}
    return {name: (rows, total) for name, rows, total in connection.execute(f"SELECT name, rows, sum FROM {TABLE}")}


def _sum(connection: sqlite3.Connection, name: str, columns: Sequence[str]) -> tuple[int, str]:
    label, rows, total = _label(name, columns), 0, 0
    for row in connection.execute(f'SELECT {", ".join(f"{chr(34)}{c}{chr(34)}" for c in columns)} FROM "{name}"'):
        rows += 1
        total += int(row_digest(label, *row), 16)
    return rows, f"{total % _MODULUS:064x}"
