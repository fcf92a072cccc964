"""Tables and lists in Markdown, for every page that is written in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; a bar inside a cell does not end it."""
    lines = [" | ".join(name.strip() for name in header), " | ".join("---" for _ in header)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {line} |" for line in lines]


def bullets(lines: Iterable[str]) -> list[str]:
    """Return the lines of a list."""
    return [f"- {line}" for line in lines]
