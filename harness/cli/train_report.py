"""``harness train report``: what a run did, step by step, and whether it may be believed."""

from __future__ import annotations

import click

from harness.cli.options import json_option
from harness.cli.train_options import run_folder, run_options, show_trained


@click.command("report")
@click.argument("run")
@run_options
@json_option
def command(run: str, profile: str, seed: int | None, as_json: bool) -> None:
    """Show what RUN did so far, and judge it: a folder, or a recipe whose run is in its default folder.

    Exit codes: 0 valid, 2 no run there or unreadable files, 4 INVALID.
    """
    from harness.library.training import read_training

    show_trained(read_training(run_folder(run, profile, seed)), as_json)
