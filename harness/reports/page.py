"""What a report says, before anybody decides how it looks: notes, a verdict, and parts in their order.

A page is built once, from results; :mod:`harness.reports.render` turns it into the terminal's tables, into Markdown and
into JSON. What is ``detail`` stands in documents only: a terminal has no room for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Heading:
    """Begins a section. ``depth`` 2 is a section of the page, 3 one within it; a terminal shows an empty line."""

    text: str
    depth: int = 2
    detail: bool = False


@dataclass(frozen=True)
class Lines:
    """Sentences that stand by themselves: lines in a terminal, a list in a document."""

    lines: tuple[str, ...]
    detail: bool = False

    @classmethod
    def of(cls, lines: Iterable[str], detail: bool = False) -> Lines:
        """Return the lines of any iterable."""
        return cls(tuple(lines), detail)


@dataclass(frozen=True)
class Prose:
    """One paragraph; a ``strong`` one must not be overlooked."""

    text: str
    strong: bool = False
    detail: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its cells as text; ``total`` is a last row, which may leave cells empty.

    ``spare`` names the columns that a narrow terminal may leave out, the least needed one first: what a reader decides
    by (verdict, level, interval) is never among them. ``legend`` stands under the table in every rendering.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] | None = None
    detail: bool = False
    spare: tuple[str, ...] = ()
    legend: str = ""

    @classmethod
    def of(
        cls,
        title: str,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        detail: bool = False,
        spare: Sequence[str] = (),
        legend: str = "",
    ) -> Table:
        """Return the table of any sequences."""
        return cls(title, tuple(header), tuple(map(tuple, rows)), None, detail, tuple(spare), legend)


@dataclass(frozen=True)
class Passage:
    """A text with a mark in it: what stands before, the marked piece (None: there is none), and what stands after."""

    name: str
    before: str
    marked: str | None = None
    after: str = ""


@dataclass(frozen=True)
class Texts:
    """Passages to be read side by side."""

    passages: tuple[Passage, ...]
    detail: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing as SVG, with a ``title`` that says what is seen, also to those who see only the text."""

    title: str
    svg: str
    detail: bool = True


@dataclass(frozen=True)
class Verdict:
    """The last word: last in a terminal, where the eye is, and first in a document."""

    word: str
    family: str
    against: str = ""


Part: TypeAlias = Heading | Lines | Prose | Table | Texts | Figure


@dataclass(frozen=True)
class Page:
    """A report. ``notes`` stand before everything else in every rendering; ``title`` heads a document."""

    title: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None

    @classmethod
    def of(cls, title: str, *parts: Part, notes: Iterable[str] = (), verdict: Verdict | None = None) -> Page:
        """Return the page without the lists and tables of documents that would be empty."""
        kept = tuple(part for part in parts if not isinstance(part, Lines) or part.lines)
        return cls(title, kept, tuple(notes), verdict)

    @property
    def brief(self) -> tuple[Part, ...]:
        """The parts that a terminal shows."""
        return tuple(part for part in self.parts if not part.detail)
