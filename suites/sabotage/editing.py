"""Edits of a stored run: every column of every table, rows taken out and put in, bytes, lengths, whole files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.runs import store
from harness.runs.folder import DATABASE

Leaf = tuple[str | int, ...]


def tables() -> dict[str, list[str]]:
    """Every table of the store and its columns, as the store itself makes them."""
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(store._SCHEMA)
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}


def column_edits() -> dict[str, str]:
    """An edit of every column: a number is a hundred more, a text one letter longer, an empty field is filled."""
    edits = {}
    for table, columns in tables().items():
        for column in columns:
            value = f"CASE typeof({column}) WHEN 'text' THEN {column} || 'x' ELSE COALESCE({column}, 0) + 100 END"
            edits[f"{table}.{column}"] = f"UPDATE {table} SET {column} = {value}"
    return edits


def row_edits() -> dict[str, str]:
    """Rows of every table: one less, none left, one twice (with its key changed where it has one)."""
    edits = {}
    for table, columns in tables().items():
        first = f"SELECT {columns[0]} FROM {table} ORDER BY {columns[0]} LIMIT 1"
        edits[f"{table}: the first {columns[0]} deleted"] = f"DELETE FROM {table} WHERE {columns[0]} = ({first})"
        edits[f"{table}: emptied"] = f"DELETE FROM {table}"
        edits[f"{table}: dropped"] = f"DROP TABLE {table}"
    return edits


def edit(run: Path, statement: str) -> bool:
    """Runs ``statement`` on the database of ``run``; False where it changed no row."""
    connection = sqlite3.connect(run / DATABASE)
    try:
        changed = connection.execute(statement).rowcount
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    return changed != 0


def content(run: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    connection = sqlite3.connect(run / DATABASE)
    try:
        return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables()}
    finally:
        connection.close()


def leaves(data: Any, path: Leaf = ()) -> Iterator[Leaf]:
    """The path of every value of nested JSON data."""
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    inner = False
    for name, value in entries:
        inner = True
        yield from leaves(value, (*path, name))
    if not inner and path:
        yield path


def with_leaf(data: Any, path: Leaf, change: Callable[[Any], Any]) -> Any:
    """A copy of ``data`` with the value at ``path`` changed."""
    copy = json.loads(json.dumps(data))
    place = copy
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = change(place[path[-1]])
    return copy


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else "x" if value is None else [*value, "x"]
