"""``harness train``: list, show, check, run, resume, report, matrix; each is imported when it is called."""

from __future__ import annotations

import importlib

import click

SUBVERBS = ("list", "show", "check", "run", "resume", "report", "matrix")


class _SubVerbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBVERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBVERBS:
            return None
        command = importlib.import_module(f"harness.cli.train_{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group("train", cls=_SubVerbs)
def command() -> None:
    """Run training experiments on verl: recipes, what they will do, whether they may start."""
