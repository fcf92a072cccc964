"""A planned matrix carried out: every cell trained, every last checkpoint evaluated, the arms compared.

Each step is a command of ``harness``, so that what the matrix does can be done by hand; what is finished is not done
again. Trainings come one after the other, since each is several processes with a Ray of its own; an evaluation shares
its items among the cores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.exceptions import HarnessError, StoreError
from harness.progress import Watcher, duration
from harness.runs.loaded import complete_run, is_run
from harness.training.book import load_recipe
from harness.training.matrix import Cell, Matrix
from harness.training.recipe import write_recipe
from harness.training_record import FILE

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
        return self.run(cell) / "checkpoints" / f"global_step_{cell.recipe.total_steps}"

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


def run_matrix(matrix: Matrix, layout: Layout, runner: Runner, watcher: Watcher, workers: int = 1) -> int:
    """Carry out what is not done yet of ``matrix`` and return the exit code of its comparisons, the worst of
    several.

    ``runner`` takes a command and returns its exit code. Raises :class:`HarnessError` at the first training or
    evaluation that fails; the same call goes on from there.
    """
    layout.folder.joinpath("recipes").mkdir(parents=True, exist_ok=True)
    for cell in matrix.cells:
        _keep_recipe(cell, layout.recipe(cell))
    todo = [step for step in steps_of(matrix, layout, workers) if step.kind != COMPARE]
    watcher.stage("matrix", len(todo), sum(step.done for step in todo))
    spent: list[float] = []
    for number, step in enumerate(each for each in todo if not each.done):
        left = sum(not each.done for each in todo) - number
        guess = f", about {duration(sum(spent) / len(spent) * left)} left" if spent else ""
        watcher.cost(f"{step.kind} {step.name}: {left} of {len(todo)} steps to do{guess}")
        began = time.monotonic()
        code = runner(step.command)
        if code != 0:
            raise HarnessError(
                f"{step.kind} {step.name}", f"it ended with code {code}", "see its output; the same command resumes"
            )
        spent.append(time.monotonic() - began)
        watcher.advance(1)
    codes = [runner(step.command) for step in steps_of(matrix, layout, workers) if step.kind == COMPARE]
    return max(codes, key=_severity)


def _training(cell: Cell, layout: Layout) -> Step:
    folder = layout.run(cell)
    begun = folder.is_dir() and any(folder.iterdir())
    if begun:
        command = (*HARNESS, "train", "resume", str(folder))
    else:
        command = (*HARNESS, "train", "run", str(layout.recipe(cell)), "--out", str(folder))
    checkpoint = layout.checkpoint(cell)
    done = any((place / FILE).is_file() for place in (checkpoint, checkpoint / "actor"))
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
