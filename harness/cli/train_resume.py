"""``harness train resume``: goes on with a run from its last checkpoint."""

from __future__ import annotations

import click

from harness.cli.options import json_option
from harness.cli.train_options import run_folder, run_options, show_trained, watching_options


@click.command("resume")
@click.argument("run")
@run_options
@watching_options
@json_option
def command(
    run: str, profile: str, seed: int | None, silence: float, stall: float, logger: tuple[str, ...], as_json: bool
) -> None:
    """Go on with RUN, a folder or a recipe whose run is in its default folder, from its last checkpoint; the recipe is
    the one it holds.

    Exit codes: 0 valid, 2 a check refuses it or a bad argument, 4 INVALID, 130 stopped by Ctrl-C or SIGTERM.
    """
    from harness.library.training import Watching, resume_training
    from harness.reports.progress import shown

    with shown() as watcher:
        trained = resume_training(run_folder(run, profile, seed), watcher, Watching(silence, logger, stall))
    show_trained(trained, as_json)
