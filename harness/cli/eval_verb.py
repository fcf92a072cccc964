"""``harness eval``: arguments in, progress and a table out; the work is in :mod:`harness.evaluate.run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.checkpoints.there import check_checkpoint
from harness.cli import options
from harness.cli.exits import Ended
from harness.record import INVALID_EVIDENCE


@click.command("eval")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder; an unfinished one is resumed.")
@options.adapter_options
@options.spec_options
@options.engine_options
@click.option("--ledger", is_flag=True, help="Show what was counted at every site.")
@options.json_option
def command(checkpoint: Path, out: Path, ledger: bool, as_json: bool, **given: Any) -> None:
    """Evaluate CHECKPOINT at every noise level, with proof that the noise was on.

    CHECKPOINT is a Hugging Face folder, a LoRA adapter with its base, or a verl checkpoint with FSDP shards.
    Records go into the run folder OUT batch by batch: Ctrl-C loses at most the running batch, the same command
    resumes, and a finished run is left as it is. Exit code 4 if the evidence is INVALID.
    """
    options.set_up_logging(given["verbose"])
    spec = options.build_spec(given)
    options.check_timeout(spec.engine, given)
    check_checkpoint(checkpoint, given["base"])
    from harness.checkpoints.source import CheckpointRef
    from harness.evaluate.api import evaluate
    from harness.reports.progress import shown

    source = CheckpointRef(checkpoint, given["base"], given["adapter"])
    with shown() as watcher:
        run = evaluate(source, spec, out, options.engine_options_of(given), given["device"], watcher=watcher)
    from harness.cli.output import show_run

    if show_run(run, as_json, ledger).status == INVALID_EVIDENCE:
        raise Ended(4)
