"""Writes the reports of a run and shows it; shared by ``eval`` and ``score``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from harness.cli.saying import say
from harness.record import Certificate
from harness.reports.render.terminal import show
from harness.reports.run_page import run_page
from harness.reports.run_report import run_report, write_reports
from harness.runs.loaded import Run


def show_run(run: Run, as_json: bool, ledger: bool = False) -> Certificate:
    """Show tables, or one JSON object, and return the run's certificate; ``ledger`` adds every site (in JSON
    ``sites``)."""
    report = run_report(run)
    write_reports(run.path, report)
    if as_json:
        sites = {"sites": [asdict(count) for count in run.counts]} if ledger else {}
        click.echo(json.dumps(report | sites, indent=2))
        return run.arm.certificate
    show(run_page(report, run.counts if ledger else ()))
    say(f"report: {run.path / 'report.md'}")
    return run.arm.certificate
