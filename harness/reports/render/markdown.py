"""Markdown: the only place that knows what a table, a list and a heading look like in it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from harness.reports.page import Figure, Heading, Lines, Page, Part, Prose, Table, Texts, Verdict


def markdown(page: Page) -> str:
    """Return ``page`` as a Markdown text: title, notes, verdict, all parts with their details."""
    blocks = [f"# {page.title}"]
    blocks += ["\n".join(bullets(page.notes))] if page.notes else []
    blocks += [_verdict(page.verdict)] if page.verdict is not None else []
    heading = ""
    for part in page.parts:
        if isinstance(part, Heading):
            heading = part.text
        elif isinstance(part, Table) and part.title and part.title != heading:
            blocks.append(f"{part.title}:")
        blocks.append(_block(part))
    return "\n\n".join(block for block in blocks if block) + "\n"


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; a bar inside a cell does not end it."""
    lines = [" | ".join(name.strip() for name in header), " | ".join("---" for _ in header)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {line} |" for line in lines]


def bullets(lines: Iterable[str]) -> list[str]:
    """Return the lines of a list."""
    return [f"- {line}" for line in lines]


def _verdict(verdict: Verdict) -> str:
    against = f" against {verdict.against}" if verdict.against else ""
    return f"**{verdict.word}**{against} ({verdict.family})"


@functools.singledispatch
def _block(part: Part) -> str:
    raise TypeError(f"no Markdown for {type(part).__name__}")


@_block.register
def _(part: Heading) -> str:
    return f"{'#' * part.depth} {part.text}"


@_block.register
def _(part: Lines) -> str:
    return "\n".join(bullets(part.lines))


@_block.register
def _(part: Prose) -> str:
    return f"**{part.text}**" if part.strong else part.text


@_block.register
def _(part: Table) -> str:
    return "\n".join(table_lines(part.header, [*part.rows, *([] if part.total is None else [part.total])]))


@_block.register
def _(part: Texts) -> str:
    """Fenced, with a fence longer than any in the text."""
    shown = []
    for passage in part.passages:
        marked = "" if passage.marked is None else f">>{passage.marked}<<"
        text = f"{passage.before}{marked}{passage.after}"
        fence = "```"
        while fence in text:
            fence += "`"
        shown.append(f"{passage.name}:\n\n{fence}text\n{text}\n{fence}")
    return "\n\n".join(shown)


@_block.register
def _(part: Figure) -> str:
    """Markdown on its own shows no drawing."""
    return f"({part.title}: in the HTML and SVG files)"
