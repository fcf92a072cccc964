"""The heat map of a scan: layer x metric for each format, as one self-contained HTML page with inline SVG.

One hue from light to dark, so that no pair of colours must be told apart; every cell prints its value, and what the
calibrated policy flags has a frame. Nothing is loaded from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from harness.diagnostics.policies import SHARE_MARGIN, SHARE_RATIO, SQNR_MARGIN_DB, layer_flags, module_flags
from harness.diagnostics.scan_result import LayerEffect, LayerScan, ScanResult, natural, short_names
from harness.reports.scan_tables import checkpoint_line, decimal, origin_line, small, title, verdict_lines

LIGHT, DARK = (247, 251, 255), (8, 48, 107)
FULL = 3.0
"""Excess over Gaussian data, in units of the policy's margin, at which a cell is darkest."""

_EVEN = 0.179
"""Luminance at which black and white text can be read equally well."""

_CELL, _ROW, _HEAD, _LETTER = 98, 24, 62, 7.2
_LEAST = 900
"""Pixels below which a wide map is scrolled: made any smaller, its figures could not be read."""
_ACCURACY_STEP = 0.05
"""A loss of accuracy (fraction) as dark as one margin."""


@dataclass(frozen=True)
class Cell:
    """One value: its text, how bad it is in units of the margin (None: not judged), and whether it has a frame."""

    text: str
    excess: float | None
    framed: bool = False


@dataclass(frozen=True)
class _Column:
    head: tuple[str, str]
    cell: Callable[[str], Cell]


def heatmap(result: ScanResult) -> str:
    """Return the page of heat maps as HTML."""
    parts = [_HEADER, f"<h1>Scan of {escape(str(result.checkpoint['model']))}</h1>"]
    parts.append(f"<p>{escape(checkpoint_line(result))}</p>")
    said = origin_line(result)
    parts += [f"<p><strong>{escape(said)}</strong></p>"] if said else []
    parts.append(_legend())
    for fmt in result.formats:
        parts.append(f"<h2>{escape(result.full_name(fmt))}</h2>")
        for what in result.measured:
            lines = "".join(f"<li>{escape(line)}</li>" for line in verdict_lines(result, fmt, what))
            parts.append(f"<p>{escape(title(result, fmt, what))}</p><ul>{lines}</ul>")
        parts.append(f'<div class="map">{format_svg(result, fmt)}</div>')
    return "\n".join([*parts, "</body></html>", ""])


def format_svg(result: ScanResult, fmt: str) -> str:
    """Return the heat map of one format as an SVG element."""
    columns = _columns(result, fmt)
    groups = {layer.group for what in result.measured for layer in result.layers(fmt, what)}
    groups |= {effect.group for effect in result.effects if effect.format == fmt}
    order = sorted(groups, key=natural)
    names = short_names(order)
    left = int(max([_LETTER * len(name) for name in names.values()] + [48])) + 16
    width, height = left + _CELL * len(columns) + 8, _HEAD + _ROW * len(order) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(result.full_name(fmt))}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'style="min-width: {min(width, _LEAST)}px">'
    ]
    parts.append(_text(left - 8, _HEAD - 12, "layer", "end", bold=True))
    for index, column in enumerate(columns):
        middle = left + _CELL * index + _CELL // 2
        parts += [
            _text(middle, _HEAD - 30 + 16 * line, word, "middle", bold=line == 0)
            for line, word in enumerate(column.head)
        ]
    framed = []
    for number, group in enumerate(order):
        top = _HEAD + _ROW * number
        parts.append(_text(left - 8, top + 16, names[group], "end"))
        for index, column in enumerate(columns):
            cell = column.cell(group)
            x = left + _CELL * index
            parts.append(f"<g>{_box(x, top, cell)}<title>{escape(_hint(group, column, cell))}</title></g>")
            if cell.framed:
                framed.append(_frame(x, top))
    return "\n".join([*parts, *framed, "</svg>"])


def _columns(result: ScanResult, fmt: str) -> list[_Column]:
    columns = []
    for what in result.measured:
        layers = {layer.group: layer for layer in result.layers(fmt, what)}
        columns += [
            _Column((what, head), _of_layer(layers, cell))
            for head, cell in (
                ("SQNR dB", _sqnr),
                ("vs Gaussian dB", _margin),
                ("dead zone %", _dead_zone),
                ("saturated %", _saturation),
                ("relative err. %", _relative),
                ("flagged", _flagged),
            )
        ]
    effects = {effect.group: effect for effect in result.effects if effect.format == fmt}
    if effects:
        most = max((float(effect.kl["estimate"] or 0) for effect in effects.values()), default=0.0)
        columns.append(_Column(("effect", "KL nats"), _of_effect(effects, lambda effect: _kl(effect, most))))
        columns.append(_Column(("effect", "accuracy pp"), _of_effect(effects, _accuracy)))
    return columns


def _of_layer(layers: dict[str, LayerScan], cell: Callable[[LayerScan], Cell]) -> Callable[[str], Cell]:
    return lambda group: cell(layers[group]) if group in layers else Cell("-", None)


def _of_effect(effects: dict[str, LayerEffect], cell: Callable[[LayerEffect], Cell]) -> Callable[[str], Cell]:
    return lambda group: cell(effects[group]) if group in effects else Cell("-", None)


def _sqnr(layer: LayerScan) -> Cell:
    return Cell(decimal(layer.metrics.sqnr_db, 2), _below(layer))


def _margin(layer: LayerScan) -> Cell:
    excess = _below(layer)
    return Cell(decimal(layer.margin_db, 2, signed=True), excess, excess is not None and excess > 1)


def _below(layer: LayerScan) -> float | None:
    return None if math.isnan(layer.margin_db) else max(0.0, -layer.margin_db / SQNR_MARGIN_DB)


def _dead_zone(layer: LayerScan) -> Cell:
    return _share(layer.metrics.dead_zone, layer.expected.dead_zone)


def _saturation(layer: LayerScan) -> Cell:
    return _share(layer.metrics.saturation, layer.expected.saturation)


def _relative(layer: LayerScan) -> Cell:
    """Not judged: it would count the dead zone twice."""
    return Cell(decimal(100 * layer.metrics.mean_relative, 2), None)


def _flagged(layer: LayerScan) -> Cell:
    """How many modules the calibrated policy flags; framed where it flags the layer."""
    count = sum(bool(module_flags(module)) for module in layer.modules)
    return Cell(f"{count} of {len(layer.modules)}", None, bool(layer_flags(layer)))


def _share(value: float, expected: float) -> Cell:
    if math.isnan(value) or math.isnan(expected):
        return Cell("-", None)
    excess = max(0.0, (value - expected) / ((SHARE_RATIO - 1) * expected + SHARE_MARGIN))
    return Cell(decimal(100 * value, 2), excess, excess > 1)


def _kl(effect: LayerEffect, most: float) -> Cell:
    estimate = effect.kl["estimate"]
    if estimate is None:
        return Cell("no number", FULL, True)
    return Cell(small(estimate), FULL * estimate / most if most > 0 else 0.0)


def _accuracy(effect: LayerEffect) -> Cell:
    estimate = effect.difference["estimate"]
    if estimate is None:
        return Cell("-", None)
    return Cell(f"{100 * estimate:+z.1f}", max(0.0, -estimate / _ACCURACY_STEP), (effect.difference["high"] or 0) < 0)


def _hint(group: str, column: _Column, cell: Cell) -> str:
    return f"{group}, {column.head[0]} {column.head[1]}: {cell.text}"


def colour(excess: float | None) -> tuple[str, str]:
    """Return (fill, colour of the text on it) of a cell: grey where nothing is judged, darker the worse."""
    if excess is None:
        return "#f0f0f0", "#000000"
    share = min(1.0, excess / FULL)
    mixed = [round(light + share * (dark - light)) for light, dark in zip(LIGHT, DARK, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed), "#000000" if _luminance(mixed) > _EVEN else "#ffffff"


def _luminance(parts: Sequence[int]) -> float:
    """Relative luminance (WCAG 2): 0 for black, 1 for white."""
    red, green, blue = (part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _box(x: int, top: int, cell: Cell) -> str:
    fill, ink = colour(cell.excess)
    box = f'<rect x="{x}" y="{top}" width="{_CELL}" height="{_ROW}" fill="{fill}" stroke="#c8c8c8"/>'
    return box + _text(x + _CELL // 2, top + 16, cell.text, "middle", ink)


def _frame(x: int, top: int) -> str:
    return (
        f'<rect x="{x + 1.5}" y="{top + 1.5}" width="{_CELL - 3}" height="{_ROW - 3}" fill="none" stroke="#d55e00" '
        f'stroke-width="3"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, ink: str = "#000000", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{ink}"{weight}>{escape(text)}</text>'


def _legend() -> str:
    steps: Sequence[tuple[float, str]] = ((0, "as Gaussian"), (1, "at the limit"), (2, "2 x"), (FULL, "3 x and more"))
    boxes = []
    for index, (excess, words) in enumerate(steps):
        boxes.append(_box(8 + 110 * index, 4, Cell("", excess)).replace(f'width="{_CELL}"', 'width="110"'))
        ink = colour(excess)[1]
        boxes.append(_text(63 + 110 * index, 20, words, "middle", ink))
    boxes.append(_box(470, 4, Cell("not judged", None)))
    boxes += [_frame(588, 4), _text(636, 20, "flagged", "middle")]
    size = 'width="700" height="32" viewBox="0 0 700 32"'
    svg = f'<div class="map"><svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(boxes)}</svg></div>'
    return (
        f"<p>Colour: how much worse than Gaussian data of the same scale, in units of the calibrated policy's margin; "
        f"KL against the largest of the format, accuracy in steps of {100 * _ACCURACY_STEP:g} points. "
        f"A frame: beyond the margin, or a loss of accuracy whose upper bound is below 0.</p>{svg}"
    )


_HEADER = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Scan</title><style>
body { background: #ffffff; color: #000000; font: 14px sans-serif; margin: 24px; }
h1 { font-size: 22px; } h2 { font-size: 18px; margin-top: 28px; } li, p { max-width: 1100px; overflow-wrap: anywhere; }
.map { overflow-x: auto; } .map svg { max-width: 100%; height: auto; }
svg text { font: 12.5px sans-serif; } svg text[font-weight="bold"] { font-weight: bold; }
</style></head><body>"""
