"""Shows a :class:`harness.progress.Watcher`'s news: a bar in a terminal, a line every ten seconds in a pipe."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.progress import Watcher, duration
from harness.text import one_line

SECONDS_BETWEEN_LINES = 10
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


@contextlib.contextmanager
def shown(console: Console | None = None) -> Iterator[Watcher]:
    """Yield a watcher that shows its news on ``console`` (default: standard error)."""
    console = console or Console(stderr=True)
    with Progress(*_COLUMNS, console=console, disable=not console.is_terminal) as progress:
        yield Shown(console, progress)


class Shown:
    """A bar for each stage."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._bar: TaskID | None = None
        self._name = ""
        self._total = self._done = self._before = 0
        self._begun = self._last = time.monotonic()

    def cost(self, line: str) -> None:
        """Print ``line``."""
        self._console.print(one_line(line), highlight=False, soft_wrap=True, markup=False)

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Begin a bar of ``total`` steps, ``done`` of which were done before."""
        self._name, self._total, self._done, self._before = name, total, done, done
        self._begun = time.monotonic()
        self._bar = self._progress.add_task(name, total=total, completed=done)

    def advance(self, count: int) -> None:
        """Move the bar, or say how far it is where there is no terminal."""
        assert self._bar is not None
        self._progress.advance(self._bar, count)
        self._done += count
        now = time.monotonic()
        if self._console.is_terminal or now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = (now - self._begun) / max(self._done - self._before, 1) * (self._total - self._done)
        self._console.print(
            f"{self._name}: {self._done} of {self._total}, {duration(left)} left", highlight=False, markup=False
        )
