"""A training run from its check to its verdict; behind ``harness train run``, ``resume`` and ``report``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.progress import Watcher
from harness.strict import read_object
from harness.training.book import resolved
from harness.training.check import RECIPE_FILE, check_recipe
from harness.training.evidence import Evidence, read_evidence
from harness.training.integrity import Failed, judge
from harness.training.launch import DATA, launch
from harness.training.order import order_hash
from harness.training.preflight import refuse
from harness.training.recipe import Recipe
from harness.training.sizes import sizes_of
from harness.training_record import FILE, TrainingRecord

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


def start_training(recipe: Recipe, folder: Path, watcher: Watcher, silence: float, resumed: bool = False) -> Trained:
    """Check ``recipe``, run it on verl in ``folder`` (or go on there) and judge what it left.

    Raises :class:`HarnessError` where a preflight check refuses it, and where it was stopped or fell silent for
    ``silence`` seconds.
    """
    checked = check_recipe(recipe, folder, resumed=resumed)
    refuse(recipe, checked.findings, starting=True)
    status_file = folder / STATUS
    status_file.unlink(missing_ok=True)
    watcher.stage("training", recipe.total_steps)
    ended = launch(recipe, folder, silence, _telling(watcher))
    status_file.write_text(json.dumps({"status": ended.status, "attempts": ended.attempts}) + "\n", encoding="utf-8")
    trained = read_training(folder)
    for step in trained.evidence.saved:
        write_record(trained, step)
    return trained


def resume_training(folder: Path, watcher: Watcher, silence: float) -> Trained:
    """Go on with the run in ``folder`` from its last checkpoint; a run that ended well is judged again."""
    trained = read_training(folder)
    if trained.evidence.status == 0 and len(trained.evidence.steps) >= trained.evidence.recipe.total_steps:
        return trained
    return start_training(trained.evidence.recipe, folder, watcher, silence, resumed=True)


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
    file = trained.folder / "checkpoints" / f"global_step_{step}" / "actor" / FILE
    file.write_text(json.dumps(record.to_json(), indent=2) + "\n", encoding="utf-8")


def _template(recipe: Recipe) -> str:
    """Return 16 hex digits of the model's chat template, as its folder holds it."""
    folder = resolved(recipe.model.path)
    files = () if folder is None else (folder / "chat_template.jinja", folder / "tokenizer_config.json")
    text = b"".join(file.read_bytes() for file in files if file.is_file())
    return hashlib.sha256(text).hexdigest()[:16]


def _telling(watcher: Watcher) -> Callable[[int], None]:
    """Return what tells ``watcher`` of new steps, called with the last step at every look."""
    done = 0

    def said(step: int) -> None:
        nonlocal done
        if step > done:
            watcher.advance(step - done)
            done = step

    return said
