"""A training run from its check to its verdict; behind ``harness train run``, ``resume`` and ``report``."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evaluate.external import score_completions
from harness.exceptions import HarnessError
from harness.progress import Watcher, duration
from harness.reports.training_curves import write_curves
from harness.runs.folder import write_atomically, write_json
from harness.strict import read_object
from harness.training.book import resolved
from harness.training.check import RECIPE_FILE, check_recipe, place_of
from harness.training.child import Hung, end_leftovers
from harness.training.evidence import HUNG, Evidence, read_evidence, saved_in
from harness.training.integrity import Failed, judge
from harness.training.launch import DATA, FAMILY, SILENCE, STALL, Listening, attempts_in, launch, loggers_here
from harness.training.order import order_hash
from harness.training.preflight import refuse
from harness.training.readback import ANSWERS, read_back, write_readback
from harness.training.recipe import Recipe
from harness.training.render import checkpoint_in
from harness.training.run_record import write_run_record
from harness.training.sizes import sizes_of
from harness.training_record import ACTOR, FILE, TrainingRecord

REWARD, LOSS = "critic/score/mean", "actor/pg_loss"
STATUS = "status.json"
FIRST_LOSSES = 4
"""Losses that tell two training runs apart."""


@dataclass(frozen=True)
class Trained:
    """A run as far as it went: what it left, and the integrity checks that it failed; any makes it INVALID."""

    folder: Path
    evidence: Evidence
    failed: tuple[Failed, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        evidence, recipe = self.evidence, self.evidence.recipe
        return {
            "folder": str(self.folder),
            "recipe": recipe.name,
            "profile": recipe.profile,
            "seed": recipe.run.seed,
            "recipe_hash": recipe.recipe_hash,
            "effective_hash": recipe.effective_hash(evidence.layers),
            "steps": len(evidence.steps),
            "planned": recipe.total_steps,
            "rewards": [list(each) for each in evidence.values(REWARD)],
            "validations": [list(each) for each in evidence.validations()],
            "saved": list(evidence.saved),
            "ended": evidence.status is not None,
            "failed": [vars(each) for each in self.failed],
        }


@dataclass(frozen=True)
class Watching:
    """How a run is watched: killed after ``silence`` seconds in which nothing is heard of it, or ``stall`` in which it
    finishes nothing, and told to verl's ``loggers`` (TensorBoard where it is installed, and these)."""

    silence: float = SILENCE
    loggers: tuple[str, ...] = ()
    stall: float = STALL


def start_training(
    recipe: Recipe, folder: Path, watcher: Watcher, watching: Watching, resumed: bool = False
) -> Trained:
    """Check ``recipe``, run it on verl in ``folder`` (or go on there), read its last checkpoint back, judge and record.

    Raises :class:`HarnessError` where a preflight check refuses it, and where it was stopped or fell silent.
    """
    loggers = loggers_here(watching.loggers)
    end_leftovers(folder / FAMILY)  # of a run that was killed: they would be in the way of the next
    checked = check_recipe(recipe, folder, resumed=resumed)
    refuse(recipe, checked.findings, starting=True)
    status_file = folder / STATUS
    status_file.unlink(missing_ok=True)
    watcher.stage("training", recipe.total_steps)
    listening = Listening(watching.silence, telling(watcher, recipe.total_steps), loggers, watching.stall)
    try:
        ended = launch(recipe, folder, listening)
    except Hung:
        _write_status(folder, HUNG)
        raise
    _write_status(folder, ended.status)
    if ended.status == 0 and recipe.total_steps in saved_in(folder):
        watcher.cost(f"the checkpoint of step {recipe.total_steps} is read back and scored")
        file = place_of(recipe, folder).validation_file
        checkpoint = checkpoint_in(folder, recipe.total_steps)
        write_readback(read_back(recipe, checkpoint, recipe.total_steps, file), folder)
    return record_training(folder)


def record_training(folder: Path) -> Trained:
    """Judge the run in ``folder`` and write its record, its curves and ``training.json`` beside each checkpoint."""
    trained = read_training(folder)
    for step in trained.evidence.saved:
        write_record(trained, step)
    write_run_record(folder, trained.evidence, trained.failed)
    write_curves(folder / "curves", trained.evidence.metrics, trained.evidence.validations())
    return trained


def import_training(folder: Path, out: Path) -> Path:
    """Bring the answers of the last checkpoint to the run's validation into the store of evaluations, in ``out``.

    As with ``harness score`` nothing certifies them. Raises :class:`HarnessError` where no checkpoint was read back.
    """
    recipe = read_training(folder).evidence.recipe
    answers = folder / ANSWERS
    if not answers.is_file() or not answers.stat().st_size:
        raise HarnessError(f"run {folder}", "its last checkpoint was not read back", "let it end: harness train resume")
    score_completions(recipe.data.task, recipe.data.validation_files or None, None, answers, out)
    return out


def _write_status(folder: Path, status: int) -> None:
    told = {"status": status, "attempts": attempts_in(folder)}
    write_atomically(folder / STATUS, json.dumps(told) + "\n")


def resume_training(folder: Path, watcher: Watcher, watching: Watching) -> Trained:
    """Go on with the run in ``folder`` from its last checkpoint; a run that ended well is judged again."""
    trained = read_training(folder)
    if trained.evidence.status == 0 and len(trained.evidence.steps) >= trained.evidence.recipe.total_steps:
        return trained
    return start_training(trained.evidence.recipe, folder, watcher, watching, resumed=True)


def read_training(folder: Path) -> Trained:
    """Return the run in ``folder`` and what its checks find. Raises :class:`HarnessError` where there is none."""
    if not (folder / RECIPE_FILE).is_file():
        raise HarnessError(f"folder {folder}", f"it holds no {RECIPE_FILE}", "name the folder of a training run")
    recipe = Recipe.from_json(read_object(folder / RECIPE_FILE))
    status = read_object(folder / STATUS)["status"] if (folder / STATUS).is_file() else None
    evidence = read_evidence(folder, sizes_of(recipe).layers, status)
    return Trained(folder, evidence, judge(evidence))


def write_record(trained: Trained, step: int) -> None:
    """Write ``training.json`` beside the checkpoint of ``step``, for evaluations and comparisons of it."""
    recipe, evidence = trained.evidence.recipe, trained.evidence
    losses = tuple(value for _, value in evidence.values(LOSS)[:FIRST_LOSSES])
    if not losses:
        raise HarnessError(f"run {trained.folder}", f"its metrics hold no {LOSS}", "see its log")
    record = TrainingRecord(
        config=recipe.effective(evidence.layers),
        seed=recipe.run.seed,
        data_order=order_hash(recipe),
        initial_losses=losses,
        step=step,
        updates=step * recipe.updates_per_step,
        epochs=step * recipe.drawn_prompts / recipe.data.train_items,
        dataset=str(read_object(trained.folder / DATA)["train"]),
        template=_template(recipe),
    )
    file = checkpoint_in(trained.folder, step) / ACTOR / FILE
    write_json(file, record.to_json())


def _template(recipe: Recipe) -> str:
    """Return 16 hex digits of the model's chat template, as its folder holds it."""
    folder = resolved(recipe.model.path)
    files = () if folder is None else (folder / "chat_template.jinja", folder / "tokenizer_config.json")
    text = b"".join(file.read_bytes() for file in files if file.is_file())
    return hashlib.sha256(text).hexdigest()[:16]


def telling(watcher: Watcher, planned: int) -> Callable[[int, Mapping[str, Any]], None]:
    """Return what tells ``watcher`` of new steps: step, reward, time left. It is called at every look."""
    done, begun = 0, time.monotonic()

    def said(step: int, metrics: Mapping[str, Any]) -> None:
        nonlocal done, begun
        if step <= done:
            return
        watcher.advance(step - done)
        now = time.monotonic()
        reward = metrics.get(REWARD)
        told = "" if reward is None else f": reward {reward:.3f}"
        # the first step comes after minutes of imports, which say nothing of the others
        left = f", {duration((now - begun) / (step - done) * (planned - step))} left" if done else ""
        watcher.cost(f"step {step} of {planned}{told}{left}")
        done, begun = step, now

    return said
