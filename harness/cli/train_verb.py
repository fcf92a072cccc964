"""``harness train``: list, show, check, run, resume, report, import, matrix."""

from __future__ import annotations

import click

from harness.cli.sub_verbs import SubVerbs


@click.group("train", cls=SubVerbs, verbs=("list", "show", "check", "run", "resume", "report", "import", "matrix"))
def command() -> None:
    """Run training experiments on verl: recipes, what they will do, whether they may start."""
