"""A small line chart as one SVG file: several series over one axis, each axis linear or logarithmic (no torch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from harness.exceptions import HarnessError
from harness.runs.folder import write_atomically

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 44, 52
COLOURS = ("#2a78d6", "#eb6834", "#1baf7a", "#4a3aa7", "#e34948", "#eda100")


@dataclass(frozen=True)
class Series:
    """Points (x, y) with a name; ``bounds`` are (low, high) of each point where it has an interval.

    ``colour`` is that of the series with this number, None: its own.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    bounds: tuple[tuple[float, float], ...] = ()
    steps: bool = False
    dashed: bool = False
    colour: int | None = None


@dataclass(frozen=True)
class Axis:
    """An axis: what it shows, and whether it is logarithmic (values of 0 and less are then left out)."""

    label: str
    log: bool = False

    def shows(self, value: float) -> bool:
        """Return whether ``value`` has a place on the axis."""
        return math.isfinite(value) and (value > 0 or not self.log)

    def at(self, value: float) -> float:
        """Return the position of ``value`` before scaling."""
        return math.log10(value) if self.log else value

    def ticks(self, low: float, high: float) -> list[float]:
        """Return values to mark between the positions ``low`` and ``high``."""
        if self.log:
            decades = range(math.floor(low), math.ceil(high) + 1)
            factors = (1, 2, 5) if high - low < 3 else (1,)
            found = [factor * 10.0**decade for decade in decades for factor in factors]
        else:
            size = 10.0 ** math.floor(math.log10((high - low) / 2))
            size = next((size * f for f in (5, 2, 1) if (high - low) / (size * f) >= 3), size)
            found = [size * n for n in range(math.ceil(low / size), math.floor(high / size) + 1)]
        return [value for value in found if low - 1e-9 <= self.at(value) <= high + 1e-9]


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """Return the SVG of ``series``. Raises ``ValueError`` where no point can be shown."""
    shown = [(p, q) for each in series for p, q in each.points if x.shows(p) and y.shows(q)]
    if not shown:
        raise ValueError(f"chart {title!r} has no point")
    ends = [b for each in series for pair in each.bounds for b in pair if y.shows(b)]
    across = [x.at(p) for each in series for p, _ in each.points if x.shows(p)]  # gaps have their place, too
    frame = _Frame(x, y, _span(across), _span([y.at(q) for q in [*(q for _, q in shown), *ends]]))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fcfcfb"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
        *frame.axes(),
    ]
    for number, each in enumerate(series):
        parts += frame.drawn(each, _colour(each, number))
    parts += _legend(series)
    return "\n".join([*parts, "</svg>"]) + "\n"


def write_chart(file: Path, svg: str) -> None:
    """Write ``svg`` to ``file``, whose name must end in ``.svg``. Raises :class:`HarnessError`."""
    if file.suffix != ".svg":
        raise HarnessError(f"--plot {file}", "plots are SVG", "end the name in .svg")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, svg)
    except OSError as error:
        raise HarnessError(f"--plot {file}", error.strerror or str(error), "choose another place") from None


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or max(abs(high) * 0.1, 0.1)
    return low - room, high + room


@dataclass(frozen=True)
class _Frame:
    x: Axis
    y: Axis
    xs: tuple[float, float]
    ys: tuple[float, float]

    def across(self, value: float) -> float:
        return LEFT + (self.x.at(value) - self.xs[0]) / (self.xs[1] - self.xs[0]) * (WIDTH - LEFT - RIGHT)

    def down(self, value: float) -> float:
        return HEIGHT - BOTTOM - (self.y.at(value) - self.ys[0]) / (self.ys[1] - self.ys[0]) * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> list[str]:
        bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
        parts = []
        for value in self.x.ticks(*self.xs):
            at = self.across(value)
            parts.append(f'<line x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{bottom + 5}" stroke="#52514e"/>')
            parts.append(f'<text x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">{value:g}</text>')
        for value in self.y.ticks(*self.ys):
            at = self.down(value)
            parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#e4e3df"/>')
            parts.append(f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
        parts.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" stroke="#52514e"/>')
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(self.x.label)}'
            "</text>"
        )
        parts.append(
            f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{escape(self.y.label)}</text>'
        )
        return parts

    def drawn(self, series: Series, colour: str) -> list[str]:
        parts, line = [], []
        before: tuple[float, float] | None = None
        for number, (p, q) in enumerate(series.points):
            if not (self.x.shows(p) and self.y.shows(q)):
                before = None
                continue
            across, down = self.across(p), self.down(q)
            if before is None:
                line.append(f"M{across:.1f} {down:.1f}")
            else:
                line.append(f"L{across:.1f} {before[1]:.1f}" if series.steps else "")
                line.append(f"L{across:.1f} {down:.1f}")
            before = (across, down)
            if series.bounds and all(self.y.shows(bound) for bound in series.bounds[number]):
                low, high = (self.down(bound) for bound in series.bounds[number])
                parts.append(
                    f'<line x1="{across:.1f}" y1="{low:.1f}" x2="{across:.1f}" y2="{high:.1f}" stroke="{colour}"/>'
                )
            if not series.steps and not series.dashed:
                parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="4" fill="{colour}"/>')
        dash = ' stroke-dasharray="6 4"' if series.dashed else ""
        parts.append(f'<path d="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        return parts


def _colour(series: Series, number: int) -> str:
    return COLOURS[(number if series.colour is None else series.colour) % len(COLOURS)]


def _legend(series: Sequence[Series]) -> list[str]:
    parts = []
    at = float(LEFT)
    for number, each in enumerate(series):
        colour = _colour(each, number)
        dash = ' stroke-dasharray="4 3"' if each.dashed else ""
        place = f'x1="{at:.0f}" y1="34" x2="{at + 16:.0f}" y2="34"'
        parts.append(f'<line {place} stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{at + 21:.0f}" y="38">{escape(each.name)}</text>')
        at += 36 + 7 * len(each.name)
    return parts
