"""``harness aqn``: schedule, plan, apply, response."""

from __future__ import annotations

import click

from harness.cli.sub_verbs import SubVerbs


@click.group("aqn", cls=SubVerbs, verbs=("schedule", "plan", "apply", "response"))
def command() -> None:
    """Put noise on the weights that generate rollouts: its schedule, its targets, its dose, its effect."""
