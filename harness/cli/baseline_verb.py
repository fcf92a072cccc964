"""``harness baseline``: accept, list, show, diff."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.baselines.book import accept as accept_run
from harness.baselines.summary import compare_baselines, list_baselines, show_baseline
from harness.cli.options import folder_option, json_option, shared
from harness.cli.saying import note, say
from harness.reports.baseline_page import baseline_page, difference_page, list_page
from harness.reports.render.terminal import show


@click.group("baseline")
def command() -> None:
    """Keep, list, show and compare accepted runs."""


@command.command("accept")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="For example arith/my-model.")
@click.option("--reason", required=True, help="Why this run is the reference.")
@click.option("--replace", is_flag=True, help="Overwrite the baseline of that name.")
@shared("baselines-dir")
def accept(run: Path, name: str, reason: str, replace: bool, baselines_dir: Path) -> None:
    """Write the finished RUN as a baseline: per-item outcomes, provenance, checksum."""
    say(str(accept_run(run, baselines_dir, name, reason, replace)))


@command.command("list")
@folder_option
@json_option
def list_(baselines_dir: Path, as_json: bool) -> None:
    """List all baselines, with date, items and reason."""
    rows = list_baselines(baselines_dir)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    show(list_page(rows))
    if not rows:
        note(f"no baselines under {baselines_dir}")


@command.command("show")
@click.argument("name")
@folder_option
@json_option
def show_(name: str, baselines_dir: Path, as_json: bool) -> None:
    """Show one baseline: what it measured, of how many, with what interval."""
    found = show_baseline(baselines_dir, name)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    show(baseline_page(found))


@command.command("diff")
@click.argument("left")
@click.argument("right")
@folder_option
@json_option
def diff(left: str, right: str, baselines_dir: Path, as_json: bool) -> None:
    """Compare two baselines or runs (names, files or run folders) outcome by outcome."""
    found = compare_baselines(baselines_dir, left, right)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    show(difference_page(found, left, right))
