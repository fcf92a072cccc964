"""``harness train run``: a recipe on real verl, watched while it runs and judged afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import json_option
from harness.cli.train_options import recipe_of, recipe_options, show_trained, watching_options
from harness.training.check import default_folder


@click.command("run")
@click.argument("name")
@recipe_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/training/NAME-...]")
@watching_options
@json_option
def command(
    name: str, out: Path | None, silence: float, stall: float, logger: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Train a recipe, NAME or a file of it, on verl; what it left is judged by the integrity checks.

    Exit codes: 0 valid, 2 a check refuses it or a bad argument, 4 INVALID, 130 stopped by Ctrl-C or SIGTERM.
    """
    from harness.library.training import Watching, start_training
    from harness.reports.progress import shown

    recipe = recipe_of(name, given)
    with shown() as watcher:
        trained = start_training(
            recipe, default_folder(recipe) if out is None else out, watcher, Watching(silence, logger, stall)
        )
    show_trained(trained, as_json)
