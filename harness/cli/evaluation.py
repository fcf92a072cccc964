"""Runs an evaluation with a cost line beforehand and a progress bar; shared by ``eval``, ``gate`` and the plugin."""

from __future__ import annotations

import time
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

from harness.evaluate.run import Prepared, evaluate, prepare, probe_seconds
from harness.gates.forecast import ASSUMED_DISCORDANCE
from harness.noise import environment
from harness.runs.loaded import Run, load_run
from harness.spec import DEFAULT_BATCH, EvalSpec
from harness.stats import minimum_detectable_effect

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
    checkpoint: Path,
    spec: EvalSpec,
    out: Path,
    *,
    batch_size: int = DEFAULT_BATCH,
    device: str | None = None,
    console: Console | None = None,
) -> Run:
    """Evaluates ``checkpoint`` under ``spec`` into ``out``, or resumes it, and returns the stored run.

    Progress and the cost line go to ``console`` (default: standard error). Raises
    :class:`harness.exceptions.HarnessError` in a process whose ``HARNESS_NOISE`` would perturb the clean arm too.
    """
    environment.refuse("an evaluation")
    console = console or Console(stderr=True)
    prepared = prepare(checkpoint, spec, device)
    with Progress(*_COLUMNS, console=console, disable=not console.is_terminal) as progress:
        shown = _Shown(console, progress, prepared, batch_size)
        evaluate(prepared, out, batch_size, shown.advance)
    return load_run(out)


def cost_line(prepared: Prepared, left: int, batch_size: int) -> str:
    """What the run will cost and what it can tell, in one line."""
    items, levels = len(prepared.items), len(prepared.spec.levels)
    effect = minimum_detectable_effect(ASSUMED_DISCORDANCE**0.5, items)
    seconds = probe_seconds(prepared, batch_size)
    batches = -(-left // batch_size)
    quantized = "".join(f"; {plan.spec} on {len(plan.sites)} sites" for plan in prepared.quantizers)
    return (
        f"{left} of {prepared.draws} generations to do: {items} items x {levels} levels, {prepared.spec.noise_seeds} "
        f"noise seeds above level 0, at most {prepared.decoding.max_new_tokens} new tokens; {prepared.spec.noise} on "
        f"{len(prepared.plan.sites)} sites{quantized}; at most {_duration(seconds * batches)} (measured on a probe "
        f"batch); minimum detectable effect {100 * effect:.1f} percentage points (one-sided alpha 0.05, power 0.8, "
        f"if {100 * ASSUMED_DISCORDANCE:.0f} % of the pairs disagree)"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class _Shown:
    """The cost line once the run folder is known to be good, then a bar, or a line every ten seconds in a pipe."""

    def __init__(self, console: Console, progress: Progress, prepared: Prepared, batch_size: int) -> None:
        self._console, self._progress, self._prepared, self._batch_size = console, progress, prepared, batch_size
        self._bar: TaskID | None = None
        self._count = self._resumed = 0
        self._begun = self._last = 0.0

    def advance(self, count: int) -> None:
        """Told of the records there already, then of those of every batch."""
        self._count += count
        total = self._prepared.draws
        if self._bar is None:
            if self._count < total:
                line = cost_line(self._prepared, total - self._count, self._batch_size)
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
        self._console.print(f"{self._count} of {total} records, {_duration(left)} left", highlight=False)
