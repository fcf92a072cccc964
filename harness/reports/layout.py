"""How tables fit a terminal: as they are, with texts folded at words, without the columns that say the same in
every row, without the least needed ones, or one row below the other. No number and no name is ever cut."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.text import one_line

STYLES = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow", "INVALID": "bold magenta"}
WIDE = 180
"""Columns where the output is no terminal and nobody says otherwise (COLUMNS): enough for every table."""

FOLDED = 24
"""Width down to which a text may be folded."""

_NUMBER = re.compile(r"[-+<> ]*[\d,.]+( %)?|-|\?")
_BORDERS = 3
_Rows = Sequence[Sequence[str]]


class _Console(Console):
    """Leaves a reader that went away to the command line: rich would exit with 1, which is FAIL here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout_console() -> Console:
    """Return standard output, wide enough for every table where it is no terminal."""
    console = _Console()
    return console if console.is_terminal or os.environ.get("COLUMNS") else _Console(width=WIDE)


def print_lines(console: Console, lines: Sequence[str]) -> None:
    """Print sentences as they are; a terminal folds them at words, a file or a pipe gets whole lines."""
    for line in lines:
        console.print(escape(one_line(line)), highlight=False, soft_wrap=not console.is_terminal)


def print_table(
    console: Console,
    title: str,
    header: Sequence[str],
    rows: _Rows,
    total: Sequence[str] | None = None,
    plain: bool = False,
    spare: Sequence[str] = (),
) -> None:
    """Print a table with its cells as they are, without markup; numbers stand on the right, verdicts in colour.

    ``total`` is a last row, which may leave cells empty; a ``plain`` table has no frame; ``spare`` names the columns
    that may be left out where there is no room, the least needed one first.
    """
    grid = _Grid.of(header, rows, [] if total is None else [total])
    title, words = one_line(title), []
    if not grid.fits(console.width):
        same = _constants(grid.header, grid.rows)
        grid = grid.without(same)
        words += [f"in every row: {', '.join(f'{name} {value}' for name, value in same.items())}"] if same else []
    whole, dropped = grid, []
    for name in map(one_line, spare):
        if name in grid.header and not grid.fits(console.width):
            grid = grid.without([name])
            dropped.append(name)
    if grid.fits(console.width):
        console.print(_styled(_table(title, grid, console.width), plain))
        words += [f"no room for: {', '.join(dropped)}"] if dropped else []
    else:
        _print_stacked(console, title, whole)
    print_lines(console, words)


@dataclass(frozen=True)
class _Grid:
    """A table as it is to be printed: each text one line."""

    header: Sequence[str]
    rows: _Rows
    totals: _Rows

    @classmethod
    def of(cls, header: Sequence[str], rows: _Rows, totals: _Rows) -> _Grid:
        clean = ([[one_line(cell) for cell in row] for row in group] for group in ([header], rows, totals))
        (first,), below, last = clean
        return cls(first, below, last)

    def without(self, names: Iterable[str]) -> _Grid:
        """The grid without the columns called ``names``."""
        gone = set(names)
        kept = [index for index, name in enumerate(self.header) if name not in gone]
        cut = ([[row[index] for index in kept] for row in group] for group in ([self.header], self.rows, self.totals))
        (first,), below, last = cut
        return _Grid(first, below, last)

    def fits(self, width: int) -> bool:
        """Whether the least widths of all columns have room."""
        return self.widths(width) is not None

    def widths(self, width: int) -> list[int] | None:
        """The widths of columns that fit into ``width`` together, None where even the least do not."""
        return _fitting(self.header, [*self.rows, *self.totals], width)


def _fitting(header: Sequence[str], rows: _Rows, width: int) -> list[int] | None:
    """The widths of columns that fit into ``width`` together, None where even the least do not."""
    columns = list(zip(header, *rows, strict=True))
    most = [max(cell_len(cell) for cell in column) for column in columns]
    least = []
    for name, *cells in columns:
        words = [cell_len(word) for cell in cells for word in cell.split()]
        longest = max((cell_len(cell) for cell in cells), default=0)
        least.append(max(*(cell_len(word) for word in name.split()), min(longest, max(FOLDED, *words, 0))))
    left = width - 1 - sum(least) - _BORDERS * len(columns)
    if left < 0:
        return None
    for index, wanted in enumerate(most):
        more = min(left, wanted - least[index])
        least[index] += more
        left -= more
    return least


def _constants(header: Sequence[str], rows: _Rows) -> Mapping[str, str]:
    """Column -> cell, for columns other than the first that say the same in each of several rows."""
    if len(rows) < 2:
        return {}
    columns = list(zip(header, *rows, strict=True))[1:]
    return {name: cells[0] for name, *cells in columns if len(set(cells)) == 1}


def _table(title: str, grid: _Grid, width: int) -> Table:
    table = Table(title=escape(title) or None, title_justify="left")
    for index, (name, wide) in enumerate(zip(grid.header, grid.widths(width) or (), strict=True)):
        numbers = bool(grid.rows) and all(_NUMBER.fullmatch(row[index]) for row in grid.rows)
        table.add_column(Text(name), overflow="fold", justify="right" if numbers else "left", width=wide)
    for group in (grid.rows, grid.totals):
        for row in group:
            table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
        table.add_section()
    return table


def _styled(table: Table, plain: bool) -> Table:
    if plain:
        table.box, table.pad_edge = None, False
    return table


def _print_stacked(console: Console, title: str, grid: _Grid) -> None:
    """Every row as its first cell and the others below it by name."""
    console.print(Text(title, "italic"), soft_wrap=True)
    for first, *rest in (*grid.rows, *grid.totals):
        console.print(Text(f"{grid.header[0]} {first}", "bold"), soft_wrap=True)
        cells = [f"{name} {cell}" for name, cell in zip(grid.header[1:], rest, strict=True) if cell]
        text = Text(", ".join(cells), overflow="fold")
        console.print(*(Text("  ") + line for line in text.wrap(console, max(1, console.width - 2))), sep="\n")
