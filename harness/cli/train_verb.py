"""``harness train``: list, show, check, run, resume, report, matrix."""

from __future__ import annotations

import click

from harness.cli.sub_verbs import SubVerbs


@click.group("train", cls=SubVerbs, verbs=("list", "show", "check", "run", "resume", "report", "matrix"))
def command() -> None:
    """Run training experiments on verl: recipes, what they will do, whether they may start."""
