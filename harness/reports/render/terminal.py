"""The terminal: tables that fit its width, sentences folded at words, verdicts in colour."""

from __future__ import annotations

import functools
import io

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from harness.reports.layout import STYLES, print_lines, print_table, stdout_console
from harness.reports.page import Figure, Heading, Lines, Page, Part, Passage, Prose, Table, Texts, Verdict
from harness.text import one_line, visible

SIDE_BY_SIDE = 80
"""Columns from which two texts stand side by side."""
MARK = "bold reverse"
FAR = 10_000
"""Characters of a text that a terminal shows before and after its mark."""
_SPACE = "\n\t"


def show(page: Page, console: Console | None = None, plain: bool = False) -> None:
    """Print ``page`` without its details on ``console`` (default: standard output); ``plain`` tables have no frame."""
    console = console or stdout_console()
    print_lines(console, page.notes)
    for number, part in enumerate(page.brief):
        if isinstance(part, Table):
            print_table(console, part.title, part.header, part.rows, part.total, plain, part.spare)
            print_lines(console, [part.legend] if part.legend else [])
        elif not isinstance(part, Heading) or number:
            _print(part, console)
    if page.verdict is not None:
        _print_verdict(page.verdict, console)


def text_lines(page: Page, width: int) -> list[str]:
    """Return what :func:`show` prints on ``width`` columns, as lines without colour and frames: for logs."""
    file = io.StringIO()
    show(page, Console(file=file, width=width), plain=True)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def _print_verdict(verdict: Verdict, console: Console) -> None:
    word = one_line(verdict.word)
    style = STYLES.get(word, "bold")
    line = f"verdict: [{style}]{escape(word)}[/]  ({escape(one_line(verdict.family))})"
    console.print(line, highlight=False, soft_wrap=not console.is_terminal)


@functools.singledispatch
def _print(part: Part, console: Console) -> None:
    raise TypeError(f"no way to print {type(part).__name__}")


@_print.register
def _(part: Heading, console: Console) -> None:
    console.print()


@_print.register
def _(part: Lines, console: Console) -> None:
    print_lines(console, part.lines)


@_print.register
def _(part: Prose, console: Console) -> None:
    if part.strong:
        console.print(Text(one_line(part.text), "bold"), soft_wrap=not console.is_terminal)
    else:
        print_lines(console, [part.text])


@_print.register
def _(part: Figure, console: Console) -> None:
    print_lines(console, [f"figure: {part.title}"])


@_print.register
def _(part: Texts, console: Console) -> None:
    """Side by side where there is room, else one below the other."""
    texts = [_marked(passage) for passage in part.passages]
    if console.width < SIDE_BY_SIDE:
        for passage, text in zip(part.passages, texts, strict=True):
            console.print(Text(f"--- {one_line(passage.name)}", "bold"))
            console.print(Padding(text, (0, 0, 0, 2)), overflow="fold")
        return
    grid = Grid()
    for passage in part.passages:
        grid.add_column(Text(one_line(passage.name)), overflow="fold")
    grid.add_row(*texts)
    console.print(grid)


def _marked(passage: Passage) -> Text:
    """The passage as it is seen, without what lies far from its mark (or, without one, from its end)."""
    before, after = passage.before, passage.after
    text = Text()
    text.append(f"[{len(before) - FAR:,} characters]\n" if len(before) > FAR else "", "dim")
    text.append(visible(before[-FAR:], _SPACE), "")
    if passage.marked is not None:
        text.append(f">>{one_line(passage.marked[:FAR])}<<", MARK)
    text.append(visible(after[:FAR], _SPACE))
    return text.append(f"\n[{len(after) - FAR:,} characters]" if len(after) > FAR else "", "dim")
