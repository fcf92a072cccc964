"""``harness train report``: what a run did, step by step, and whether it may be believed."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import json_option
from harness.cli.train_options import show_trained


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Show what the run in FOLDER did so far, and judge it.

    Exit codes: 0 valid, 2 no run there or unreadable files, 4 INVALID.
    """
    from harness.library.training import read_training

    show_trained(read_training(folder), as_json)
