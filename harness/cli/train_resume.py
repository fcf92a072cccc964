"""``harness train resume``: goes on with a run from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import json_option
from harness.cli.train_options import show_trained, watching_options


@click.command("resume")
@click.argument("folder", type=click.Path(path_type=Path))
@watching_options
@json_option
def command(folder: Path, silence: float, stall: float, logger: tuple[str, ...], as_json: bool) -> None:
    """Go on with the run in FOLDER from its last checkpoint; the recipe is the one it holds.

    Exit codes: 0 valid, 2 a check refuses it or a bad argument, 4 INVALID, 130 stopped by Ctrl-C or SIGTERM.
    """
    from harness.library.training import Watching, resume_training
    from harness.reports.progress import shown

    with shown() as watcher:
        trained = resume_training(folder, watcher, Watching(silence, logger, stall))
    show_trained(trained, as_json)
