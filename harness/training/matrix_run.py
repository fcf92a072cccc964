"""A planned matrix carried out: every cell trained, every last checkpoint evaluated, the arms compared.

Each step is a command of ``harness``, so that what the matrix does can be done by hand; what is finished is not done
again. Cells run side by side where cores and memory allow: each training has a Ray of its own, which the others leave
alone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from harness.exceptions import HarnessError, StoreError
from harness.progress import Watcher, duration
from harness.runs.loaded import complete_run, is_run
from harness.training.book import load_recipe
from harness.training.estimate import memory_gib
from harness.training.machine import MachineState
from harness.training.matrix import Cell, Matrix
from harness.training.recipe import write_recipe
from harness.training.render import checkpoint_in
from harness.training.sections import CPU
from harness.training.sizes import sizes_of
from harness.training_record import ACTOR, FILE

Command = tuple[str, ...]
Runner = Callable[[Command], int]
HARNESS: Command = (sys.executable, "-m", "harness.cli.main")
TRAIN, EVALUATE, COMPARE = "train", "evaluate", "compare"
NOTHING_ESTABLISHED = 3
"""Exit code of a comparison without a difference: an answer, and no failure of the matrix."""


@dataclass(frozen=True)
class Step:
    """One command of the matrix; ``done`` says that its result is there already."""

    kind: str
    name: str
    command: Command
    done: bool


@dataclass(frozen=True)
class Layout:
    """Where a matrix keeps what it makes, below ``folder``."""

    folder: Path

    def run(self, cell: Cell) -> Path:
        """Return the folder of the training run of ``cell``."""
        return self.folder / "runs" / cell.name

    def recipe(self, cell: Cell) -> Path:
        """Return the file of the recipe of ``cell``."""
        return self.folder / "recipes" / f"{cell.name}.json"

    def checkpoint(self, cell: Cell) -> Path:
        """Return the folder of the last checkpoint of ``cell``, as verl names it."""
        return checkpoint_in(self.run(cell), cell.recipe.total_steps)

    def evaluation(self, cell: Cell) -> Path:
        """Return the run folder of the evaluation of ``cell``."""
        return self.folder / "evaluations" / cell.name


def steps_of(matrix: Matrix, layout: Layout, workers: int = 1) -> Iterator[Step]:
    """Yield the commands of ``matrix`` in order: each cell's training and evaluation, then a comparison for each arm
    with the first."""
    for cell in matrix.cells:
        yield _training(cell, layout)
        yield _evaluation(cell, layout, matrix, workers)
    first, *others = matrix.arms
    for other in others:
        pair = [f"{arm.name}={_evaluations(matrix, layout, arm.name)}" for arm in (other, first)]
        command = (*HARNESS, "compare", "--arm", pair[0], "--arm", pair[1], "--factor", matrix.factor)
        yield Step(COMPARE, f"{other.name} against {first.name}", command, False)


def run_matrix(
    matrix: Matrix,
    layout: Layout,
    runner: Runner,
    watcher: Watcher,
    workers: int = 1,
    at_once: int = 1,
    stop: Callable[[], None] = lambda: None,
) -> int:
    """Carry out what is not done yet of ``matrix`` and return the exit code of its comparisons, the worst of
    several.

    ``runner`` takes a command and returns its exit code. ``at_once`` cells are carried out side by side; within a cell
    the training comes before the evaluation. On Ctrl-C no further step begins, and ``stop`` ends those that run. Raises
    :class:`HarnessError` where a training or evaluation failed, when those beside it have ended; the same call goes on
    from there.
    """
    layout.folder.joinpath("recipes").mkdir(parents=True, exist_ok=True)
    for cell in matrix.cells:
        _keep_recipe(cell, layout.recipe(cell))
    todo = [step for step in steps_of(matrix, layout, workers) if step.kind != COMPARE]
    watcher.stage("matrix", len(todo), sum(step.done for step in todo))
    telling = _Telling(watcher, len(todo), sum(not step.done for step in todo), at_once)
    cells = [[step for step in todo if step.name == cell.name and not step.done] for cell in matrix.cells]
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(_carry_out, steps, runner, telling) for steps in cells]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:  # leaving the block waits for what runs, so that it is told first
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
        if any(future.exception() is not None for future in done):
            for future in futures:
                future.cancel()
    for future in futures:
        if not future.cancelled():
            future.result()
    codes = [runner(step.command) for step in steps_of(matrix, layout, workers) if step.kind == COMPARE]
    return max(codes, key=_severity)


def cells_at_once(matrix: Matrix, machine: MachineState) -> int:
    """Return how many cells ``machine`` can train side by side: a core and the memory of a run for each; 1 where the
    runs share devices or a cluster."""
    first = matrix.arms[0].recipe
    if first.machine.platform != CPU or first.machine.ray_address:
        return 1
    needed = max(memory_gib(arm.recipe, sizes_of(arm.recipe)) for arm in matrix.arms)
    return max(1, min(machine.cores, int(machine.memory / needed), len(matrix.cells)))


@dataclass
class _Telling:
    """Tells a watcher which step begins, how many are left and how long they will take; several threads may call."""

    watcher: Watcher
    total: int
    left: int
    at_once: int
    spent: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, step: Step) -> None:
        """Say that ``step`` begins."""
        with self.lock:
            seconds = sum(self.spent) / len(self.spent) * self.left / self.at_once if self.spent else 0.0
            guess = f", about {duration(seconds)} left" if self.spent else ""
            self.watcher.cost(f"{step.kind} {step.name}: {self.left} of {self.total} steps to do{guess}")

    def ended(self, seconds: float) -> None:
        """Take note that a step took ``seconds``."""
        with self.lock:
            self.spent.append(seconds)
            self.left -= 1
            self.watcher.advance(1)


def _carry_out(steps: Sequence[Step], runner: Runner, telling: _Telling) -> None:
    for step in steps:
        telling.begins(step)
        began = time.monotonic()
        code = runner(step.command)
        if code != 0:
            raise HarnessError(
                f"{step.kind} {step.name}", f"it ended with code {code}", "see its output; the same command resumes"
            )
        telling.ended(time.monotonic() - began)


def _training(cell: Cell, layout: Layout) -> Step:
    folder = layout.run(cell)
    begun = folder.is_dir() and any(folder.iterdir())
    if begun:
        command = (*HARNESS, "train", "resume", str(folder))
    else:
        command = (*HARNESS, "train", "run", str(layout.recipe(cell)), "--out", str(folder))
    checkpoint = layout.checkpoint(cell)
    done = any((place / FILE).is_file() for place in (checkpoint, checkpoint / ACTOR))
    return Step(TRAIN, cell.name, command, done)


def _evaluation(cell: Cell, layout: Layout, matrix: Matrix, workers: int) -> Step:
    folder, data = layout.evaluation(cell), cell.recipe.data
    levels = ",".join(f"{level:g}" for level in matrix.levels)
    command = [*HARNESS, "eval", str(layout.checkpoint(cell)), "--out", str(folder)]
    command += ["--task", data.task, "--noise-levels", levels, "--max-new-tokens", str(data.max_response)]
    command += ["--items", str(matrix.items)] if matrix.items else ["--all-items"]
    command += ["--data", data.validation_files] if data.validation_files else []
    command += ["--workers", str(workers)] if workers > 1 else []
    return Step(EVALUATE, cell.name, tuple(command), _is_complete(folder))


def _is_complete(folder: Path) -> bool:
    if not is_run(folder):
        return False
    try:
        complete_run(folder)
    except StoreError:
        raise
    except HarnessError:
        return False  # unfinished: the command resumes it
    return True


def _keep_recipe(cell: Cell, file: Path) -> None:
    """Write the recipe of ``cell``, or make sure that the one of an earlier call is the same."""
    if not file.exists():
        write_recipe(cell.recipe, file)
    elif load_recipe(str(file)).recipe_hash != cell.recipe.recipe_hash:
        raise HarnessError(
            f"matrix folder {file.parent.parent}",
            f"it holds runs of another recipe of {cell.name}",
            "give another --out, or the file as it was",
        )


def _evaluations(matrix: Matrix, layout: Layout, arm: str) -> str:
    return ",".join(str(layout.evaluation(cell)) for cell in matrix.cells if cell.arm == arm)


def _severity(code: int) -> int:
    """Return the rank of a comparison's code: none established, established, and what went wrong above both."""
    return {NOTHING_ESTABLISHED: 0, 0: 1}.get(code, 2 + code)
