"""``harness score``: scores completions produced elsewhere into a run of its own kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli import options


@click.command("score")
@options.task_options
@click.option("--completions", type=click.Path(path_type=Path), required=True, help="JSONL, one completion per line.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write.")
@options.json_option
def command(completions: Path, out: Path, as_json: bool, **given: Any) -> None:
    """Score COMPLETIONS: objects with `completion` and `item` (hash) or `question`; optional `level`, `seed`.

    Such a run is "external, uncertified": nothing proves what noise was on. It can be a baseline and be compared
    at level 0; its noisy levels are INVALID.
    """
    options.set_up_logging(False)
    from harness.cli.output import show_run
    from harness.evaluate.external import score_completions
    from harness.runs.loaded import load_run

    score_completions(given["task"], given["data"], given["scorer"], completions, out)
    show_run(load_run(out), as_json)
