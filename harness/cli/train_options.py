"""The options that choose a recipe and say where its model and data lie, shared by the verbs under ``train``."""

from __future__ import annotations

from typing import Any

import click

from harness.cli import options
from harness.training.book import GPU, PROFILES, TINY, load_recipe
from harness.training.recipe import Recipe

profile_option = click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default=TINY,
    show_default=True,
    help=f"{TINY}: the shipped checkpoint on a CPU; {GPU}: the published model and data.",
)
place_options = options.apply(
    click.option("--model", metavar="FOLDER", help="The model to train, instead of the recipe's."),
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


def recipe_of(name: str, given: dict[str, Any]) -> Recipe:
    """Return the recipe ``name`` with the values of :data:`recipe_options`. Raises :class:`HarnessError`."""
    return load_recipe(name, given["profile"], changes_of(given))


def changes_of(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the options change, as tables of a recipe."""
    changes: dict[str, dict[str, Any]] = {}
    for option, (section, key) in _PLACES.items():
        if given.get(option) is not None:
            changes.setdefault(section, {})[key] = given[option]
    return changes
