"""Runs a scan with its cost said beforehand and a progress bar, or a line every ten seconds in a pipe."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harness.diagnostics.scan_result import ScanResult
from harness.diagnostics.scan_run import scan
from harness.diagnostics.scan_spec import ScanSpec
from harness.noise import environment

SECONDS_BETWEEN_LINES = 10


def scan_with_progress(spec: ScanSpec, out: Path | None, console: Console | None = None) -> ScanResult:
    """:func:`harness.diagnostics.scan_run.scan`, shown on ``console`` (default: standard error)."""
    environment.refuse("a scan")
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        return scan(spec, out, Shown(console, progress))


class Shown:
    """The watcher of a scan: a bar for each stage."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._bar: TaskID | None = None
        self._name = ""
        self._total = self._done = 0
        self._last = time.monotonic()

    def cost(self, line: str) -> None:
        """Prints ``line``."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def stage(self, name: str, total: int) -> None:
        """Begins a bar of ``total`` steps."""
        self._name, self._total, self._done = name, total, 0
        self._bar = self._progress.add_task(name, total=total)

    def advance(self, count: int) -> None:
        """Moves the bar, or says how far it is where there is no terminal."""
        assert self._bar is not None
        self._progress.advance(self._bar, count)
        self._done += count
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self._console.print(f"{self._name}: {self._done} of {self._total}", highlight=False)
