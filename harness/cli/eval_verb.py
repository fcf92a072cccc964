"""``harness eval``: arguments in, progress and a table out; the work is in :mod:`harness.evaluate.run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli import options


@click.command("eval")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder; an unfinished one is resumed.")
@options.spec_options
@options.engine_options
@click.option("--ledger", is_flag=True, help="Show what was counted at every site.")
@options.json_option
def command(checkpoint: Path, out: Path, ledger: bool, as_json: bool, **given: Any) -> None:
    """Evaluate CHECKPOINT (a Hugging Face folder) at every noise level, with proof that the noise was on.

    Records go into the run folder OUT batch by batch: Ctrl-C loses at most the running batch, the same command
    resumes, and a finished run is left as it is. Exit code 4 if the evidence is INVALID.
    """
    options.set_up_logging(given["verbose"])
    spec = options.build_spec(given)
    from harness.cli.evaluation import evaluate_with_progress

    run = evaluate_with_progress(checkpoint, spec, out, batch_size=given["batch_size"], device=given["device"])
    from harness.reports.run_report import run_report, write_reports
    from harness.reports.terminal import print_ledger, print_run

    report = run_report(run)
    write_reports(out, report)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_run(report)
        if ledger:
            print_ledger(run.counts)
        click.echo(f"report: {out / 'report.md'}")
    if report["certificate"]["status"] == "invalid":
        raise SystemExit(4)
