"""``harness train matrix``: arms times training seeds, planned and refused before anything runs, then carried out."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli.exits import INTERRUPTED, Ended
from harness.cli.options import json_option, refuse_with
from harness.cli.saying import complain, say
from harness.cli.train_options import changes_of, place_options
from harness.progress import Silent
from harness.training.check import check_recipe
from harness.training.machine import look_around
from harness.training.matrix import Matrix, load_matrix
from harness.training.matrix_run import Layout, cells_at_once, run_matrix, steps_of
from harness.training.preflight import refuse


@click.command("matrix")
@click.argument("file", type=click.Path(path_type=Path))
@place_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the matrix.  [default: runs/matrix/FILE]")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes of an evaluation.")
@click.option("--at-once", type=click.IntRange(1), help="Cells side by side.  [default: what cores and memory allow]")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would run, and run nothing.")
@json_option
def command(
    file: Path, out: Path | None, workers: int, at_once: int | None, only_plan: bool, as_json: bool, **given: Any
) -> None:
    """Train every arm of FILE at every seed, evaluate every last checkpoint, and compare the arms.

    Arms that act the same, or differ in more than one factor, are refused before anything runs. What is finished is not
    done again. Exit codes: 0 a difference is established, 3 none is, 2 bad arguments or a step that failed, 4 INVALID,
    130 stopped by Ctrl-C or SIGTERM.
    """
    if only_plan:
        refuse_with("--plan", ("at_once",), {"at_once": at_once})
    matrix = load_matrix(file, changes_of(given))
    layout = Layout(Path("runs") / "matrix" / file.stem if out is None else out)
    if as_json:
        steps = [{"kind": s.kind, "name": s.name, "done": s.done} for s in steps_of(matrix, layout, workers)]
        click.echo(json.dumps(matrix.to_json() | {"folder": str(layout.folder), "steps": steps}, indent=2))
    else:
        _show(matrix, layout, workers)
    if only_plan:
        return
    for arm in matrix.arms:
        checked = check_recipe(arm.recipe, layout.folder / "runs" / f"{arm.name}-preflight")
        refuse(arm.recipe, checked.findings, starting=True)
    together = cells_at_once(matrix, look_around()) if at_once is None else at_once
    running = Steps()
    raise Ended(run_matrix(matrix, layout, running.run, _Lines(), workers, together, running.stop))


class Steps:
    """Runs commands with the terminal that this program has, in several threads, and can stop all of them."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped, self._lock = False, threading.Lock()

    def run(self, step: Sequence[str]) -> int:
        """Return the exit code of the command ``step``; none starts once all were stopped."""
        with self._lock:
            if self._stopped:
                return INTERRUPTED
            process = subprocess.Popen(step)
            self._running.add(process)
        try:
            return process.wait()
        except KeyboardInterrupt:
            self.stop()
            process.wait()
            raise
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        """Tell every command that runs to end as by Ctrl-C, which it may have had from the terminal already."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


class _Lines(Silent):
    """Says which step begins; the steps show bars of their own."""

    def cost(self, line: str) -> None:
        """Print ``line`` to standard error."""
        complain(line)


def _show(matrix: Matrix, layout: Layout, workers: int) -> None:
    say(f"{matrix.title}: the arms differ in {matrix.factor}")
    for arm in matrix.arms:
        say(f"  {arm.name}: {arm.recipe.name}, {matrix.factor} = {arm.effective[matrix.factor]}")
    say("data order by seed, the same in every arm")
    for seed, order in {cell.seed: cell.order for cell in matrix.cells}.items():
        say(f"  seed {seed}: {order}")
    say(f"steps, in {layout.folder}")
    for step in steps_of(matrix, layout, workers):
        say(f"  {step.kind:<8} {step.name}{' (done)' if step.done else ''}")
