"""Markdown: the only place that knows what a table, a list and a heading look like in it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from harness.reports.page import Figure, Heading, Lines, Page, Part, Prose, Table, Texts, Verdict
from harness.reports.render.escape import fenced, inline, line


def markdown(page: Page) -> str:
    """Return ``page`` as a Markdown text: title, notes, verdict, all parts with their details."""
    blocks = [f"# {line(page.title)}"]
    blocks += ["\n".join(bullets(page.notes))] if page.notes else []
    blocks += [_verdict(page.verdict)] if page.verdict is not None else []
    heading = ""
    for part in page.parts:
        if isinstance(part, Heading):
            heading = part.text
        elif isinstance(part, Table) and part.title and part.title != heading:
            blocks.append(f"{line(part.title)}:")
        blocks.append(_block(part))
    return "\n\n".join(block for block in blocks if block) + "\n"


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose cells are Markdown; a bar in a cell is escaped."""
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return [f"| {found} |" for found in lines]


def bullets(lines: Iterable[str]) -> list[str]:
    """Return the lines of a list of texts."""
    return [f"- {line(text)}" for text in lines]


def _verdict(verdict: Verdict) -> str:
    against = f" against {inline(verdict.against)}" if verdict.against else ""
    return f"**{inline(verdict.word)}**{against} ({inline(verdict.family)})"


@functools.singledispatch
def _block(part: Part) -> str:
    raise TypeError(f"no Markdown for {type(part).__name__}")


@_block.register
def _(part: Heading) -> str:
    return f"{'#' * part.depth} {line(part.text)}"


@_block.register
def _(part: Lines) -> str:
    return "\n".join(bullets(part.lines))


@_block.register
def _(part: Prose) -> str:
    return f"**{inline(part.text)}**" if part.strong else line(part.text)


@_block.register
def _(part: Table) -> str:
    rows = [*part.rows, *([] if part.total is None else [part.total])]
    table = "\n".join(table_lines(_cells(part.header), map(_cells, rows)))
    return f"{table}\n\n{line(part.legend)}" if part.legend else table


@_block.register
def _(part: Texts) -> str:
    shown = []
    for passage in part.passages:
        marked = "" if passage.marked is None else f">>{passage.marked}<<"
        shown.append(f"{line(passage.name)}:\n\n{fenced(f'{passage.before}{marked}{passage.after}')}")
    return "\n\n".join(shown)


@_block.register
def _(part: Figure) -> str:
    """Markdown on its own shows no drawing."""
    return f"({inline(part.title)}: in the HTML and SVG files)"


def _cells(row: Sequence[str]) -> list[str]:
    return [inline(cell) for cell in row]
