"""``harness train import``: a run's last checkpoint on its validation, into the store that evaluations have."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options
from harness.cli.train_options import run_folder, run_options


@click.command("import")
@click.argument("run")
@run_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write.")
@options.json_option
def command(run: str, profile: str, seed: int | None, out: Path, as_json: bool) -> None:
    """Write what the last checkpoint of RUN, a folder or a recipe, answered to the run's own validation into a store.

    Such a run is "external, uncertified", as those of harness score: it can be shown, compared at level 0 and be a
    baseline. Exit codes: 0 imported, 2 no run there, or none whose checkpoint was read back.
    """
    options.set_up_logging(False)
    from harness.cli.output import show_run
    from harness.library.training import import_training
    from harness.runs.loaded import load_run

    show_run(load_run(import_training(run_folder(run, profile, seed), out)), as_json)
