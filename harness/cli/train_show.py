"""``harness train show``: one recipe in full, with what it repeats and the claims that it feeds."""

from __future__ import annotations

import json
from typing import Any

import click

from harness.claims.feeds import claims_fed
from harness.claims.load import load_registry
from harness.cli.options import json_option
from harness.cli.saying import say
from harness.cli.train_options import recipe_of, recipe_options
from harness.training.recipe import Recipe
from harness.training.sizes import sizes_of

_WORDS = ("title", "label", "source", "note")


@click.command("show")
@click.argument("name")
@recipe_options
@json_option
def command(name: str, as_json: bool, **given: Any) -> None:
    """Show every setting of a recipe, NAME or a TOML file, with its base and profile merged in."""
    recipe = recipe_of(name, given)
    fed = claims_fed(load_registry(), recipe.published, recipe.label)
    if as_json:
        click.echo(json.dumps(recipe.to_json() | {"claims": list(fed), **_hashes(recipe)}, indent=2))
        return
    say(f"{recipe.name} ({recipe.profile})")
    for word in _WORDS:
        if getattr(recipe, word):
            say(f"  {word:<10} {getattr(recipe, word)}")
    say(f"  {'repeats':<10} {', '.join(recipe.published) or 'nothing published'}")
    say(f"  {'feeds':<10} {', '.join(fed) or 'no claim of the registry'}")
    for section, values in recipe.to_json().items():
        if isinstance(values, dict):
            say(f"[{section}]")
            for key, value in values.items():
                say(f"  {key} = {json.dumps(value)}")
    for key, value in _hashes(recipe).items():
        say(f"{key.replace('_', ' ')}: {value}")


def _hashes(recipe: Recipe) -> dict[str, str]:
    return {"recipe_hash": recipe.recipe_hash, "effective_hash": recipe.effective_hash(sizes_of(recipe).layers)}
