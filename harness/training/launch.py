"""Launches a checked recipe on real verl, in a folder of its own, and resumes it from verl's last checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.runs.folder import write_atomically, write_json
from harness.text import nearest
from harness.training.book import resolved
from harness.training.check import RECIPE_FILE, place_of
from harness.training.child import Watch, run_child
from harness.training.compose import compose
from harness.training.data import write_data
from harness.training.layers import ENVIRONMENT, MODEL, Setting
from harness.training.recipe import VARIABLE, Recipe, write_recipe
from harness.training.render import ENGINE, Place, render
from harness.training.verl_plugin import EARLY, LATE, LEDGER_VARIABLE, MAIN, SETTINGS_FILE, TRAINER, VENDOR

LOG, LEDGER, DATA = "log.txt", "ledger.jsonl", "data.json"
FAMILY = "family.json"
"""What the processes of a run are known by while they live."""

TENSORBOARD = "tensorboard"
LOGGERS = (TENSORBOARD, "wandb", "mlflow", "swanlab")
"""Loggers of verl's own (``trainer.logger``) that a user may ask for, by the packages that they need."""

SILENCE = 900.0
"""Seconds without a sign of life after which a run is given up: longer than imports and a first validation take."""

STALL = 7200.0
"""Seconds without a step or a validation after which a run is given up, whatever it says: longer than one takes."""


@dataclass(frozen=True)
class Launched:
    """A run that ended: its folder, verl's exit status, and how many attempts there were."""

    folder: Path
    status: int
    attempts: int


def loggers_here(asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Return verl's loggers beside console and file: TensorBoard where it is installed, and those ``asked`` for.

    Raises :class:`HarnessError` for one that is not known, or not installed here.
    """
    for name in asked:
        if name not in LOGGERS:
            raise HarnessError(f"logger {name!r}", "it is one of a list", nearest(name, LOGGERS))
        if find_spec(name) is None:
            raise HarnessError(f"logger {name}", "it is not installed here", f"pip install {name}, or drop it")
    always = (TENSORBOARD,) if find_spec(TENSORBOARD) is not None else ()
    return tuple(dict.fromkeys((*always, *asked)))


def plugin_settings(recipe: Recipe, loggers: Sequence[str] = ()) -> dict[str, Setting]:
    """Return verl's keys that bring the plugin in; the model's path is that of the machine."""
    found = resolved(recipe.model.path)
    return {
        f"{MODEL}.path": recipe.model.path if found is None else str(found.absolute()),
        f"{MODEL}.external_lib": LATE,
        "trainer.v1.trainer_mode": TRAINER,
        "trainer.logger": ["console", "file", *loggers],
    }


def environment_of(recipe: Recipe, place: Place, attempt: int) -> dict[str, str]:
    """Return the environment of every process of a run."""
    platform = recipe.machine.platform
    return {
        **os.environ,
        **ENVIRONMENT[platform],
        VARIABLE: str(place.folder / RECIPE_FILE),
        LEDGER_VARIABLE: str(place.folder / LEDGER),
        "VERL_USE_EXTERNAL_MODULES": EARLY,
        "VERL_ENGINE_VENDOR": VENDOR,
        "VERL_FILE_LOGGER_PATH": str(metrics_file(place.folder, attempt)),
        "TENSORBOARD_DIR": str(place.folder / TENSORBOARD),
        "HYDRA_FULL_ERROR": "1",
    }


def metrics_file(folder: Path, attempt: int) -> Path:
    """Return verl's file of metrics of one attempt: a resumed run would overwrite its own."""
    return folder / f"metrics-{attempt}.jsonl"


def attempts_in(folder: Path) -> int:
    """Return how many times the run in ``folder`` was started."""
    return len(list(folder.glob("metrics-*.jsonl")))


@dataclass(frozen=True)
class Listening:
    """``said`` hears of the last step that is done and its metrics, at every look; ``silence`` is how many seconds
    without a sign of life kill the run, ``stall`` how many without a step; ``loggers`` are verl's, beside console and
    file."""

    silence: float = SILENCE
    said: Callable[[int, Mapping[str, Any]], None] = lambda step, metrics: None
    loggers: tuple[str, ...] = ()
    stall: float = STALL


def launch(recipe: Recipe, folder: Path, listening: Listening) -> Launched:
    """Run ``recipe`` in the new ``folder``, or go on where its last checkpoint is.

    Raises :class:`HarnessError` where the folder holds another recipe, or the run was interrupted or hung.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RECIPE_FILE
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != recipe.to_json():
        raise HarnessError(f"folder {folder}", "it holds the run of another recipe", "give another folder")
    write_recipe(recipe, file)
    ray_folder = Path(tempfile.mkdtemp(prefix="rh-"))
    place = place_of(recipe, folder, ray_folder)
    written = write_data(recipe, place)
    write_atomically(folder / DATA, json.dumps(vars(written)) + "\n")
    settings = render(recipe, place, plugin_settings(recipe, listening.loggers))
    composed = compose(settings)
    told = {key: value for key, value in settings.items() if key != ENGINE}
    write_json(folder / SETTINGS_FILE, told)
    attempt = attempts_in(folder) + 1
    metrics = metrics_file(folder, attempt)
    files = (folder / LOG, metrics, folder / LEDGER)
    watch = Watch(
        lambda: files,
        listening.silence,
        lambda: listening.said(*last_step(metrics)),
        folder / FAMILY,
        lambda: files[1:],
        listening.stall,
    )
    try:
        status = run_child(
            (sys.executable, "-u", "-m", MAIN, *composed.overrides),
            environment_of(recipe, place, attempt),
            folder / LOG,
            watch,
        )
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)
    return Launched(folder, status, attempt)


def last_step(metrics: Path) -> tuple[int, Mapping[str, Any]]:
    """Return the last step of which ``metrics`` tells and what; 0 and nothing where there is none."""
    return max(read_metrics(metrics), key=lambda told: told[0], default=(0, {}))


def read_metrics(file: Path) -> list[tuple[int, Mapping[str, Any]]]:
    """Return (step, metrics) of every whole line; a line that is still being written is left out."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            told = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.append((int(told["step"]), told["data"]))
    return found
