"""HTML: one self-contained file that loads nothing, for a browser, a phone or a printer.

Every text is shown letter by letter, as in the other renderings; a policy in the page keeps a browser from running or
loading anything. A table wider than the window is scrolled by itself, and its text is never cut.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from html import escape

from harness.reports.page import Figure, Heading, Lines, Page, Part, Prose, Table, Texts, Verdict
from harness.text import one_line, visible

_NUMBER = re.compile(r"[-+\d.,%\s\[\]()/x]*\d[-+\d.,%\s\[\]()/x]*|-|")
_COLOURS = {"PASS": "pass", "FAIL": "fail", "INVALID": "fail"}
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; }
h1, h2, h3, p, li, figcaption { overflow-wrap: anywhere; }
.notes { border-left: 4px solid #b58900; } ul { padding-left: 1.5rem; }
.verdict { border: 2px solid; border-radius: 6px; padding: .5rem 1rem; } .verdict b { font-size: 1.3rem; }
.pass { border-color: #2a7d2a; } .fail { border-color: #b3261e; } .open { border-color: #b58900; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .25rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left; vertical-align: top; }
th { border-bottom-width: 2px; } td { max-width: 32rem; overflow-wrap: break-word; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.total td { font-weight: 600; }
.legend { font-size: .85rem; opacity: .8; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .5rem; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; background: #fff; }
@media print { body { max-width: none; font-size: 10pt; } .table { overflow: visible; } tr { break-inside: avoid; } }
"""
_HEAD = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)


def html(page: Page) -> str:
    """Return ``page`` as an HTML document: title, notes, verdict, all parts with their details."""
    title = _text(page.title)
    blocks = [f"{_HEAD}<title>{title}</title><style>{_STYLE}</style></head><body>", f"<h1>{title}</h1>"]
    blocks += [f'<div class="notes">{_bullets(page.notes)}</div>'] if page.notes else []
    blocks += [_verdict(page.verdict)] if page.verdict is not None else []
    heading = ""
    for part in page.parts:
        if isinstance(part, Heading):
            heading = part.text
        blocks.append(_table(part, heading) if isinstance(part, Table) else _block(part))
    return "\n".join([*blocks, "</body></html>", ""])


def _text(text: str) -> str:
    return escape(" ".join(one_line(text).split()))


def _bullets(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _verdict(verdict: Verdict) -> str:
    against = f" against {_text(verdict.against)}" if verdict.against else ""
    kind = _COLOURS.get(verdict.word, "open")
    return f'<p class="verdict {kind}"><b>{_text(verdict.word)}</b>{against} ({_text(verdict.family)})</p>'


def _table(part: Table, heading: str) -> str:
    """The table; columns of numbers are flush right."""
    rows = [*part.rows, *([] if part.total is None else [part.total])]
    columns = [[row[place] for row in rows if place < len(row)] for place in range(len(part.header))]
    kinds = [' class="n"' if cells and all(map(_NUMBER.fullmatch, cells)) else "" for cells in columns]
    caption = f"<caption>{_text(part.title)}</caption>" if part.title and part.title != heading else ""
    head = "".join(f"<th{kind}>{_text(name)}</th>" for kind, name in zip(kinds, part.header, strict=True))
    body = "".join(_row(row, kinds, row is part.total) for row in rows)
    legend = f'<p class="legend">{_text(part.legend)}</p>' if part.legend else ""
    table = f"<table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<div class="table" tabindex="0">{table}</div>{legend}'


def _row(row: Sequence[str], kinds: Sequence[str], total: bool) -> str:
    cells = "".join(f"<td{kind}>{_text(cell)}</td>" for kind, cell in zip(kinds, row, strict=False))
    return f'<tr class="total">{cells}</tr>\n' if total else f"<tr>{cells}</tr>\n"


@functools.singledispatch
def _block(part: Part) -> str:
    raise TypeError(f"no HTML for {type(part).__name__}")


@_block.register
def _(part: Heading) -> str:
    return f"<h{part.depth}>{_text(part.text)}</h{part.depth}>"


@_block.register
def _(part: Lines) -> str:
    return _bullets(part.lines)


@_block.register
def _(part: Prose) -> str:
    text = _text(part.text)
    return f"<p><strong>{text}</strong></p>" if part.strong else f"<p>{text}</p>"


@_block.register
def _(part: Texts) -> str:
    shown = []
    for passage in part.passages:
        marked = "" if passage.marked is None else f"<mark>{_lines(passage.marked)}</mark>"
        text = f"{_lines(passage.before)}{marked}{_lines(passage.after)}"
        shown.append(f"<figure><figcaption>{_text(passage.name)}</figcaption><pre>{text}</pre></figure>")
    return "\n".join(shown)


@_block.register
def _(part: Figure) -> str:
    return f'<figure class="table">{part.svg}<figcaption>{_text(part.title)}</figcaption></figure>'


def _lines(text: str) -> str:
    return escape(visible(text, "\n\t"))
