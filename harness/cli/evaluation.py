"""Runs an evaluation with a cost line beforehand and a progress bar; shared by ``eval``, ``gate`` and the plugin."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

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

from harness.checkpoints.source import AnyCheckpoint
from harness.cli.costs import cost_line, duration
from harness.evaluate.early import EarlyStopping
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.run import engine_of, evaluate
from harness.noise import environment
from harness.runs.loaded import Run, load_run
from harness.spec import EngineOptions, EvalSpec

SECONDS_BETWEEN_LINES = 10
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


def evaluate_with_progress(
    checkpoint: AnyCheckpoint,
    spec: EvalSpec,
    out: Path,
    *,
    options: EngineOptions | None = None,
    device: str | None = None,
    console: Console | None = None,
    early: EarlyStopping | None = None,
) -> Run:
    """Evaluates ``checkpoint`` under ``spec`` into ``out``, or resumes it, and returns the stored run.

    With ``early`` it may stop before all items are evaluated.
    Progress and the cost line go to ``console`` (default: standard error). Raises
    :class:`harness.exceptions.HarnessError` in a process whose ``HARNESS_NOISE`` would perturb the clean arm too.
    """
    environment.refuse("an evaluation")
    console = console or Console(stderr=True)
    options = options or EngineOptions()
    prepared = prepare(checkpoint, spec, device, outline=options.workers > 1)
    if early is not None:
        prepared = early.ordered(prepared)
    with Progress(*_COLUMNS, console=console, disable=not console.is_terminal) as progress:
        engine = engine_of(prepared, options, device)
        if early is None:
            shown = _Shown(console, progress, prepared, options)
            evaluate(prepared, out, options.batch_size, shown.advance, engine=engine, mixed_code=options.mixed_code)
        else:
            shown = _Shown(console, progress, prepared, options, lambda: early.finished(load_run(out)))
            evaluate(prepared, out, options.batch_size, shown.advance, early.parts, engine, options.mixed_code)
    return load_run(out)


class _Shown:
    """The cost line once the run folder is known to be good, then a bar, or a line every ten seconds in a pipe."""

    def __init__(
        self,
        console: Console,
        progress: Progress,
        prepared: Prepared,
        options: EngineOptions,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._console, self._progress, self._prepared, self._options = console, progress, prepared, options
        self._stopped = stopped
        self._bar: TaskID | None = None
        self._count = self._resumed = 0
        self._begun = self._last = 0.0

    def advance(self, count: int) -> None:
        """Told of the records there already, then of those of every batch."""
        self._count += count
        total = self._prepared.draws
        if self._bar is None:
            if self._count < total and not self._stopped():
                line = cost_line(self._prepared, total - self._count, self._options)
                self._console.print(line, highlight=False, soft_wrap=True)
            self._bar = self._progress.add_task("records", total=total, completed=self._count)
            self._resumed = self._count
            self._begun = self._last = time.monotonic()
            return
        self._progress.advance(self._bar, count)
        now = time.monotonic()
        if self._console.is_terminal or (now - self._last < SECONDS_BETWEEN_LINES and self._count < total):
            return
        self._last = now
        left = (now - self._begun) / (self._count - self._resumed) * (total - self._count)
        self._console.print(f"{self._count} of {total} records, {duration(left)} left", highlight=False)
