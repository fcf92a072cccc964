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
        same = grid.constants()
        grid = grid.without(same)
        words += [f"in every row: {', '.join(f'{name} {value}' for name, value in same.items())}"] if same else []
    whole, dropped = grid, []
    for name in map(one_line, spare):
        if not grid.fits(console.width) and any(column.name == name for column in grid.columns):
            grid = grid.without([name])
            dropped.append(name)
    if grid.fits(console.width):
        console.print(_styled(_table(title, grid, console.width), plain))
        words += [f"no room for: {', '.join(dropped)}"] if dropped else []
    else:
        _print_stacked(console, title, whole)
    print_lines(console, words)


@dataclass(frozen=True)
class _Column:
    """One column: its name, its cells, and how wide it would be at most and must be at least."""

    name: str
    cells: Sequence[str]
    most: int
    least: int

    @classmethod
    def of(cls, name: str, cells: Sequence[str]) -> _Column:
        """Measures ``cells``, each of them once."""
        longest = max(map(cell_len, cells), default=0)
        words = max((cell_len(word) for cell in cells for word in cell.split()), default=0) if longest > FOLDED else 0
        least = max(*map(cell_len, name.split()), min(longest, max(FOLDED, words)), 0)
        return cls(name, cells, max(cell_len(name), longest), least)


@dataclass(frozen=True)
class _Grid:
    """A table as it is to be printed: each text one line; its last ``totals`` rows stand apart."""

    columns: Sequence[_Column]
    totals: int

    @classmethod
    def of(cls, header: Sequence[str], rows: _Rows, totals: _Rows) -> _Grid:
        clean = [[one_line(cell) for cell in row] for row in (header, *rows, *totals)]
        return cls([_Column.of(name, cells) for name, *cells in zip(*clean, strict=True)], len(totals))

    def without(self, names: Iterable[str]) -> _Grid:
        """The grid without the columns called ``names``."""
        gone = set(names)
        return _Grid([column for column in self.columns if column.name not in gone], self.totals)

    def fits(self, width: int) -> bool:
        """Whether the least widths of all columns have room."""
        return self._left(width) >= 0

    def widths(self, width: int) -> list[int]:
        """The widths of columns that fit into ``width`` together, where even the least do."""
        left, found = self._left(width), []
        for column in self.columns:
            more = min(left, column.most - column.least)
            found.append(column.least + more)
            left -= more
        return found

    def _left(self, width: int) -> int:
        return width - 1 - sum(column.least + _BORDERS for column in self.columns)

    def rows(self) -> Sequence[Sequence[str]]:
        """The rows, those of the totals last."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    def body(self, column: _Column) -> Sequence[str]:
        """The cells of ``column`` but those of the totals."""
        return column.cells[: len(column.cells) - self.totals]

    def constants(self) -> Mapping[str, str]:
        """Column -> cell, for columns other than the first that say the same in each of several rows."""
        found = {column.name: self.body(column) for column in self.columns[1:]}
        return {name: cells[0] for name, cells in found.items() if len(cells) > 1 and len(set(cells)) == 1}


def _table(title: str, grid: _Grid, width: int) -> Table:
    table = Table(title=escape(title) or None, title_justify="left")
    for column, wide in zip(grid.columns, grid.widths(width), strict=True):
        body = grid.body(column)
        numbers = bool(body) and all(map(_NUMBER.fullmatch, body))
        table.add_column(Text(column.name), overflow="fold", justify="right" if numbers else "left", width=wide)
    rows = grid.rows()
    for group in (rows[: len(rows) - grid.totals], rows[len(rows) - grid.totals :]):
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
    key, *others = (column.name for column in grid.columns)
    for first, *rest in grid.rows():
        console.print(Text(f"{key} {first}", "bold"), soft_wrap=True)
        cells = [f"{name} {cell}" for name, cell in zip(others, rest, strict=True) if cell]
        text = Text(", ".join(cells), overflow="fold")
        console.print(*(Text("  ") + line for line in text.wrap(console, max(1, console.width - 2))), sep="\n")
