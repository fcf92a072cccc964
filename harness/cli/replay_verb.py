"""``harness replay``: one item of a run again, clean and noisy, beside what the run has stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.checkpoints.hub import located
from harness.cli import options
from harness.cli.exits import Ended
from harness.runs.folder import read_manifest


@click.command("replay")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--item", required=True, metavar="HASH", help="The item's hash, or its unique beginning.")
@click.option("--level", required=True, type=float, help="A noise level of the run (fraction).")
@click.option("--seed", default=0, show_default=True, help="A noise seed of that level.")
@click.option("--checkpoint", default=None, type=click.Path(path_type=Path), help="Where the checkpoint is now.")
@click.option("--data", default=None, metavar="FILE", help="Where the task's data is now.")
@click.option("--device", default=None, help="cpu, cuda, ...; default: the accelerator, else cpu.")
@click.option("--ledger", is_flag=True, help="Show what was counted at every site.")
@options.json_option
def command(run: Path, item: str, level: float, seed: int, ledger: bool, as_json: bool, **given: Any) -> None:
    """Generate one item of RUN again, alone, without noise and with it, and compare with the stored records.

    Exit code 4 where a generation differs from its record, or the checkpoint is not that of the run.
    """
    options.set_up_logging(False)
    read_manifest(run)
    if given["checkpoint"] is not None:
        given["checkpoint"] = located(given["checkpoint"], "--checkpoint")
    from harness.evaluate.regenerate import replay
    from harness.reports.render.terminal import show
    from harness.reports.replay_page import replay_page
    from harness.reports.run_report import ledger_report

    found = replay(run, item, level, seed, **given)
    report = {**found.to_json(), "ledger": ledger_report(found.counts)}
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show(replay_page(report, found.counts if ledger else ()))
    if not found.reproduced:
        raise Ended(4)
