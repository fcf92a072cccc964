"""Writes the reports of a run and shows it; shared by ``eval`` and ``score``."""

from __future__ import annotations

import json

import click

from harness.cli.saying import say
from harness.record import Certificate
from harness.reports.render.terminal import show
from harness.reports.run_page import run_page
from harness.reports.run_report import run_report, write_reports
from harness.runs.loaded import Run


def show_run(run: Run, as_json: bool, ledger: bool = False) -> Certificate:
    """Show tables, or one JSON object; ``ledger`` adds every site. Return the run's certificate."""
    report = run_report(run)
    write_reports(run.path, report)
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return run.arm.certificate
    show(run_page(report, run.counts if ledger else ()))
    say(f"report: {run.path / 'report.md'}")
    return run.arm.certificate
