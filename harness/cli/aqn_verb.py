"""``harness aqn``: schedule, plan, apply, response; each is imported when it is called."""

from __future__ import annotations

import importlib

import click

SUBVERBS = ("schedule", "plan", "apply", "response")


class _SubVerbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBVERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBVERBS:
            return None
        command = importlib.import_module(f"harness.cli.aqn_{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group("aqn", cls=_SubVerbs)
def command() -> None:
    """Put noise on the weights that generate rollouts: its schedule, its targets, its dose, its effect."""
