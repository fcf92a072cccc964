"""``harness train list``: every recipe with its label, its length and its title."""

from __future__ import annotations

import json

import click

from harness.cli.options import json_option
from harness.cli.saying import say
from harness.cli.train_options import profile_option
from harness.training.book import aliases, load_recipe, recipe_names


@click.command("list")
@profile_option
@json_option
def command(profile: str, as_json: bool) -> None:
    """List the recipes: name, the sources' label, steps, title."""
    recipes = [load_recipe(name, profile) for name in recipe_names()]
    if as_json:
        found = [
            {"name": each.name, "label": each.label, "steps": each.total_steps, "title": each.title} for each in recipes
        ]
        click.echo(json.dumps({"profile": profile, "recipes": found, "aliases": dict(aliases())}, indent=2))
        return
    name, label = (max(len(getattr(each, field)) for each in recipes) for field in ("name", "label"))
    for each in recipes:
        say(f"{each.name:<{name}}  {each.label:<{label}}  {each.total_steps:>4} steps  {each.title}")
    say(f"also: {', '.join(f'{alias} = {meant}' for alias, meant in aliases().items())}")
