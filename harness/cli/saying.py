"""How the command line says a sentence: whatever stands in it, nothing of it steers the terminal.

Paths, texts out of files and messages of libraries may hold escape sequences, line breaks, marks of writing direction
or halves of letters. Every line that is no JSON and no page goes through here; pages and JSON escape by themselves.
"""

from __future__ import annotations

import logging

import click

from harness.text import one_line, visible

_LINES = "\n\t"


def say(line: str) -> None:
    """Print ``line`` as one line on standard output."""
    click.echo(one_line(line))


def note(line: str) -> None:
    """Print ``line`` as one line on standard error: what is no part of the result."""
    click.echo(one_line(line), err=True)


def complain(reason: str) -> None:
    """Print ``reason`` as one line of the harness on standard error."""
    note(f"harness: {' '.join(reason.split())}")


def complain_at_length(text: str) -> None:
    """Print ``text`` on standard error, line by line as it is: for tracebacks."""
    click.echo(visible(text, _LINES), err=True, nl=False)


class VisibleFormatter(logging.Formatter):
    """Formats a record as its base does, with what would steer the terminal as escapes; lines stay lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of ``record``."""
        return visible(super().format(record), _LINES)
