"""``harness baseline``: accept, list, show, diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.baselines import book
from harness.baselines.file import Baseline, load
from harness.cli.options import folder_option, json_option
from harness.exceptions import HarnessError
from harness.gates.pairing import pair
from harness.gates.requirements import accuracy
from harness.record import Arm
from harness.reports.tables import percent
from harness.runs.loaded import complete_run, is_run


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
    click.echo(book.accept(run, baselines_dir, name, reason, replace))


@command.command("list")
@folder_option
@json_option
def list_(baselines_dir: Path, as_json: bool) -> None:
    """List all baselines, with date, items and reason."""
    rows = [_listed(name, path) for name, path in book.listed(baselines_dir)]
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
    baseline = book.load_named(baselines_dir, name)
    found = _row(name, baseline) | {
        "notes": list(baseline.arm.certificate.notes),
        "measurement_key": dict(baseline.arm.key),
        "levels": _levels(baseline.arm),
        "provenance": baseline.provenance,
        "spec": baseline.spec,
        "certificate": baseline.arm.certificate.to_json(),
    }
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
    found = book.diff(_arm(left, baselines_dir), _arm(right, baselines_dir))
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


def _arm(name: str, folder: Path) -> Arm:
    return complete_run(Path(name)).arm if is_run(Path(name)) else book.load_named(folder, name).arm


def _listed(name: str, path: Path) -> dict[str, Any]:
    """A row of the list; a damaged file is shown as such and hides no other."""
    try:
        return _row(name, load(path))
    except HarnessError as error:
        return {"name": name, "accepted": "-", "items": 0, "status": "damaged", "reason": str(error)}


def _row(name: str, baseline: Baseline) -> dict[str, Any]:
    return {
        "name": name,
        "accepted": baseline.accepted,
        "items": len({item for cells in baseline.arm.outcomes.values() for item in cells}),
        "status": baseline.arm.certificate.status,
        "reason": baseline.reason,
    }


def _levels(arm: Arm) -> list[dict[str, Any]]:
    rows = []
    for level, cells in sorted(arm.outcomes.items()):
        pairs = pair(cells, cells, clusters=arm.clusters)
        interval = accuracy(pairs, pairs.means()[0], 0.05) if pairs.n else None
        rows.append({"level": level, "n": pairs.n, "accuracy": None if interval is None else interval.to_json()})
    return rows
