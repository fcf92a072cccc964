"""``harness train check``: what a recipe will do and cost, and whether it may start; nothing is started or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.options import json_option
from harness.cli.saying import say
from harness.cli.train_options import recipe_of, recipe_options
from harness.training.check import Checked, check_recipe
from harness.training.preflight import PASSED, refuse


@click.command("check")
@click.argument("name")
@recipe_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/training/NAME-...]")
@json_option
def command(name: str, out: Path | None, as_json: bool, **given: Any) -> None:
    """Check a recipe, NAME or a TOML file: settings, injections, sigma, memory, hours, and every preflight check.

    Exit codes: 0 it may start, 2 a check refuses it or an argument is wrong.
    """
    recipe = recipe_of(name, given)
    checked = check_recipe(recipe, out)
    if as_json:
        click.echo(json.dumps(checked.to_json(), indent=2, allow_nan=False))
    else:
        _show(checked)
    refuse(recipe, checked.findings)


def _show(checked: Checked) -> None:
    found = checked.to_json()
    recipe = checked.recipe
    say(f"{recipe.name} ({recipe.profile}): {recipe.title}")
    say("verl settings")
    for override in found["overrides"]:
        say(f"  {override}")
    if found["expected"] is not None:
        _show_expected(found["expected"])
    say("preflight")
    width = max(len(each["check"]) for each in found["preflight"])
    for each in found["preflight"]:
        say(f"  {each['check']:<{width}}  {each['state']}{': ' if each['words'] else ''}{each['words']}")
    passed = sum(each["state"] == PASSED for each in found["preflight"])
    say(f"  {passed} of {len(found['preflight'])} ok; folder {found['folder']}")
    say(f"recipe {found['recipe_hash']}, effective configuration {found['effective_hash']}")


def _show_expected(expected: dict[str, Any]) -> None:
    say(
        f"steps: {expected['steps']} of {expected['updates_per_step']} updates on "
        f"{expected['trajectories_per_step']} answers; validated at {_numbers(expected['validated_at'])}, "
        f"saved at {_numbers(expected['saved_at'])}"
    )
    say("injections expected in each step, on each device")
    for each in expected["injections"]:
        calls = "" if each["calls"] is None else f"{each['calls']:,} calls"
        told = "; ".join(part for part in (calls if each["calls"] else "", each["words"]) if part)
        sites = "" if not each["sites"] else f"{each['sites']} sites, "
        say(f"  {each['name']:<16} {sites}{told}")
    sigma = expected["sigma"]
    say(f"sigma of AQN: {'off' if sigma is None else _sigma(sigma['sigma'])}")
    if expected["aqn_layers"] is not None:
        say(f"  on {expected['aqn_layers']} weights of the rollout copy")
    cost = [f"{expected['memory_gib']:g} GiB of memory at least"]
    if expected["cpu_minutes"] is not None:
        cost.append(f"{expected['cpu_minutes']:g} min here at least; noise costs more")
    else:
        hours = expected["gpu_hours"]
        cost.append("hours unknown" if hours is None else f"{hours:g} GPU-hours of an A100, by the sources")
    say(f"cost: {', '.join(cost)}")


def _numbers(steps: list[int]) -> str:
    return ", ".join(map(str, steps)) or "no step"


def _sigma(values: list[float]) -> str:
    """Return ``0-1: 0, 2-3: 0.05``: the steps, from 0 to the last, of each sigma."""
    parts, first = [], 0
    for step in range(1, len(values) + 1):
        if step == len(values) or values[step] != values[first]:
            steps = f"{first}" if step - 1 == first else f"{first}-{step - 1}"
            parts.append(f"{steps}: {values[first]:.3g}")
            first = step
    return ", ".join(parts)
