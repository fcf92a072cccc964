"""``harness baseline``: accept, list, show, diff."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.baselines.book import accept as accept_run
from harness.baselines.summary import compare_baselines, list_baselines, show_baseline
from harness.cli.options import folder_option, json_option
from harness.reports.tables import percent


@click.group("baseline")
def command() -> None:
    """Keep, list, show and compare accepted runs."""


@command.command("accept")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="For example arith/my-model.")
@click.option("--reason", required=True, help="Why this run is the reference.")
@click.option("--replace", is_flag=True, help="Overwrite the baseline of that name.")
@folder_option
def accept(run: Path, name: str, reason: str, replace: bool, baselines_dir: Path) -> None:
    """Write the finished RUN as a baseline: per-item outcomes, provenance, checksum."""
    click.echo(accept_run(run, baselines_dir, name, reason, replace))


@command.command("list")
@folder_option
@json_option
def list_(baselines_dir: Path, as_json: bool) -> None:
    """List all baselines, with date, items and reason."""
    rows = list_baselines(baselines_dir)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['accepted']}  {row['items']} items  {row['status']}  {row['reason']}")
    if not rows:
        click.echo(f"no baselines under {baselines_dir}", err=True)


@command.command("show")
@click.argument("name")
@folder_option
@json_option
def show(name: str, baselines_dir: Path, as_json: bool) -> None:
    """Show one baseline: what it measured, of how many, with what interval."""
    found = show_baseline(baselines_dir, name)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for field in ("name", "accepted", "reason", "status", "items"):
        click.echo(f"{field}: {found[field]}")
    for note in found["notes"]:
        click.echo(f"note: {note}")
    for level in found["levels"]:
        click.echo(f"level {100 * level['level']:g} %: accuracy {percent(level['accuracy'])} % of {level['n']} items")
    for field, value in found["measurement_key"].items():
        click.echo(f"{field}: {value}")


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
    for difference in found.key:
        click.echo(difference)
    for level in found.only_left:
        flips = found.changed.get(level, {})
        count = sum(len(seeds) for seeds in flips.values())
        click.echo(
            f"level {100 * level:g} %: {count} outcomes differ, "
            f"{found.only_left[level]} only in {left}, {found.only_right[level]} only in {right}"
        )
        for item, seeds in flips.items():
            words = ", ".join(f"seed {seed} {before} -> {after}" for seed, (before, after) in seeds.items())
            click.echo(f"  {item}: {words}")
