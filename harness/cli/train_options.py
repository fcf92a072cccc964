"""The options that choose a recipe and say where its model and data lie, shared by the verbs under ``train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.checkpoints.hub import located
from harness.checkpoints.there import hub_name
from harness.cli import options
from harness.cli.exits import INVALID, Ended
from harness.cli.saying import say
from harness.exceptions import HarnessError
from harness.training.book import GPU, PROFILES, SUFFIX, TINY, load_recipe, resolved
from harness.training.check import default_folder
from harness.training.recipe import Recipe

profile_option = click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default=TINY,
    show_default=True,
    help=f"{TINY}: the shipped checkpoint on a CPU; {GPU}: the published model and data.",
)
place_options = options.apply(
    click.option(
        "--model", metavar="FOLDER", help="The model to train, instead of the recipe's; or org/name on a hub."
    ),
    click.option("--train-data", metavar="FILE", help="Training data in verl's Parquet layout."),
    click.option("--validation-data", metavar="FILE", help="Validation data in verl's Parquet layout."),
    click.option("--ray-address", metavar="ADDRESS", help="Join this Ray cluster instead of starting one."),
    click.option("--nodes", type=click.IntRange(1), help="Nodes of the cluster.  [default: the recipe's]"),
    click.option("--devices", type=click.IntRange(1), help="Devices of each node.  [default: the recipe's]"),
)
recipe_options = options.apply(
    profile_option,
    place_options,
    click.option("--seed", type=click.IntRange(0), help="Training seed.  [default: the recipe's]"),
)
run_options = options.apply(
    profile_option,
    click.option(
        "--seed", type=click.IntRange(0), help="Training seed of a run that is named by its recipe.  [default: its own]"
    ),
)
_PLACES = {
    "model": ("model", "path"),
    "train_data": ("data", "train_files"),
    "validation_data": ("data", "validation_files"),
    "seed": ("run", "seed"),
    "ray_address": ("machine", "ray_address"),
    "nodes": ("machine", "nodes"),
    "devices": ("machine", "devices"),
}
"""Option -> section and key of the recipe."""


def run_folder(run: str, profile: str, seed: int | None) -> Path:
    """Return the folder of ``run``: itself, or that which ``harness train run`` gives the recipe of this name."""
    if Path(run).is_dir():
        return Path(run)
    try:
        recipe = load_recipe(run, profile, {} if seed is None else {"run": {"seed": seed}})
    except HarnessError:
        if run.endswith(SUFFIX):
            raise
        return Path(run)  # which is then said to hold no run
    return default_folder(recipe)


def recipe_of(name: str, given: dict[str, Any]) -> Recipe:
    """Return the recipe ``name`` with the values of :data:`recipe_options`. Raises :class:`HarnessError`."""
    return load_recipe(name, given["profile"], changes_of(given))


def changes_of(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the options change, as tables of a recipe; a model on a hub is that of its snapshot in the cache."""
    model = given.get("model")
    if model is not None and resolved(model) is None and hub_name(model) is not None:
        given = given | {"model": str(located(Path(model), "--model"))}
    changes: dict[str, dict[str, Any]] = {}
    for option, (section, key) in _PLACES.items():
        if given.get(option) is not None:
            changes.setdefault(section, {})[key] = given[option]
    return changes


watching_options = options.apply(
    click.option(
        "--silence",
        type=click.FloatRange(1),
        default=900.0,
        show_default=True,
        metavar="SECONDS",
        help="Kill a run of which nothing is heard for so long.",
    ),
    click.option(
        "--stall",
        type=click.FloatRange(1),
        default=7200.0,
        show_default=True,
        metavar="SECONDS",
        help="Kill a run that goes on talking and finishes no step for so long.",
    ),
    click.option(
        "--logger",
        multiple=True,
        metavar="NAME",
        help="One of verl's loggers, as wandb; repeatable.  [default: tensorboard, where it is installed]",
    ),
)


def show_trained(trained: Any, as_json: bool) -> None:
    """Print a run and end with code 4 where a check failed; ``trained`` is harness.library.training's."""
    found = trained.to_json()
    if as_json:
        click.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        say(f"{found['recipe']} ({found['profile']}), seed {found['seed']}: {found['folder']}")
        ended = "" if found["ended"] else ", not ended"
        say(f"steps: {found['steps']} of {found['planned']}{ended}; saved at {_list(found['saved'])}")
        for word in ("rewards", "validations"):
            say(f"{word}: {', '.join(f'{step}: {value:.3f}' for step, value in found[word]) or 'none'}")
        for each in found["failed"]:
            say(f"INVALID  {each['check']}: {each['words']}")
        say(f"recipe {found['recipe_hash']}, effective configuration {found['effective_hash']}")
    if found["failed"]:
        raise Ended(INVALID)


def _list(steps: list[int]) -> str:
    return ", ".join(map(str, steps)) or "no step"
