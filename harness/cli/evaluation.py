"""Runs an evaluation with a cost line beforehand and a progress bar; shared by ``eval``, ``gate`` and the plugin."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.evaluate.run import DEFAULT_BATCH, Prepared, evaluate, prepare, probe_seconds
from harness.runs.loaded import Run, load_run
from harness.runs.store import Store, read_manifest
from harness.spec import EvalSpec
from harness.stats import minimum_detectable_effect

ASSUMED_DISCORDANCE = 0.05
"""Share of items whose outcome differs between two runs, for the effect announced before anything is known."""


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

    Progress and the cost line go to ``console`` (default: standard error).
    """
    console = console or Console(stderr=True)
    prepared = prepare(checkpoint, spec, device)
    left = prepared.draws - _done(out)
    if left:
        console.print(cost_line(prepared, left, batch_size), highlight=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not left or not console.is_terminal) as progress:
        bar = progress.add_task("records", total=prepared.draws)
        shown = _PlainProgress(console, prepared.draws) if left and not console.is_terminal else None

        def advance(count: int) -> None:
            progress.advance(bar, count)
            if shown is not None:
                shown.advance(count)

        evaluate(prepared, out, batch_size, advance)
    return load_run(out)


def cost_line(prepared: Prepared, left: int, batch_size: int) -> str:
    """What the run will cost and what it can tell, in one line."""
    items, levels = len(prepared.items), len(prepared.spec.levels)
    effect = minimum_detectable_effect(ASSUMED_DISCORDANCE**0.5, items)
    seconds = probe_seconds(prepared, batch_size)
    batches = -(-left // batch_size)
    return (
        f"{left} of {prepared.draws} generations to do: {items} items x {levels} levels, {prepared.spec.noise_seeds} "
        f"noise seeds above level 0, at most {prepared.decoding.max_new_tokens} new tokens; {prepared.spec.noise} on "
        f"{len(prepared.plan.sites)} sites; at most {_duration(seconds * batches)} (measured on a probe batch); "
        f"minimum detectable effect {100 * effect:.1f} percentage points (one-sided alpha 0.05, power 0.8, "
        f"if {100 * ASSUMED_DISCORDANCE:.0f} % of the pairs disagree)"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _done(out: Path) -> int:
    """Records there already; 0 where ``out`` is not a run folder (its soundness is checked when it is opened)."""
    if not (out / "records.sqlite").is_file():
        return 0
    read_manifest(out)
    with Store.read(out) as store:
        return len(store.done())


class _PlainProgress:
    """A line every ten seconds, for logs and pipes."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._count = console, total, 0
        self._last = self._begun = time.monotonic()
        self._resumed: int | None = None

    def advance(self, count: int) -> None:
        """Counts; prints when ten seconds have passed or all is done."""
        self._count += count
        if self._resumed is None:
            self._resumed = self._count
        now = time.monotonic()
        if now - self._last < 10 and self._count < self._total:
            return
        self._last = now
        new = self._count - self._resumed
        left = (now - self._begun) / new * (self._total - self._count) if new else 0.0
        self._console.print(f"{self._count} of {self._total} records, {_duration(left)} left", highlight=False)
