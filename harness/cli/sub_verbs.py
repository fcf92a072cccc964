"""A verb of several verbs: each is a module ``harness.cli.NAME_VERB``, imported when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click


class SubVerbs(click.Group):
    """The group of a verb; ``verbs`` are listed in their order."""

    def __init__(self, *given: Any, verbs: tuple[str, ...], **more: Any) -> None:
        super().__init__(*given, **more)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which they are listed."""
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of the verb ``cmd_name``, None where there is none."""
        if cmd_name not in self._verbs:
            return None
        command = importlib.import_module(f"harness.cli.{self.name}_{cmd_name}").command
        assert isinstance(command, click.Command)
        return command
