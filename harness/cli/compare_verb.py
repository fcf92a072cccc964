"""``harness compare``: two arms of evaluated training runs, judged over training seeds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options
from harness.cli.exits import Ended
from harness.exceptions import HarnessError, StoreError
from harness.gates.arms import Replicate, ReplicatedArm
from harness.gates.compare import compare_arms
from harness.reports.compare_view import print_comparison
from harness.runs.loaded import complete_run
from harness.training_record import TrainingRecord


@click.command("compare")
@click.option("--arm", "arms", multiple=True, metavar="NAME=RUN,RUN,...", help="Twice: a name and its run folders.")
@click.option("--factor", default=None, help="The one setting in which the arms are meant to differ.")
@click.option("--alpha", default=0.025, show_default=True, help="One-sided, for all levels together.")
@options.json_option
def command(arms: tuple[str, ...], factor: str | None, alpha: float, as_json: bool) -> None:
    """Compare two arms over their training seeds, at every noise level that all runs have.

    A run belongs to an arm by the training.json beside its checkpoint: effective configuration, training seed, data
    order, first losses. Exit codes: 0 a difference is established at some level, 2 bad arguments or unreadable files,
    3 none is, or one training seed per arm (no claim), 4 INVALID.
    """
    options.set_up_logging(False)
    found = compare_arms([_arm(text) for text in arms], factor, alpha)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        print_comparison(found.to_json())
    raise Ended(found.exit_code)


def _arm(text: str) -> ReplicatedArm:
    label, equals, folders = text.partition("=")
    paths = [Path(folder.strip()) for folder in folders.split(",") if folder.strip()]
    if not equals or not label.strip() or not paths:
        raise HarnessError(f"--arm {text}", "an arm is a name and its run folders", "write --arm base=RUN,RUN,RUN")
    twice = [path for index, path in enumerate(paths) if path.resolve() in {other.resolve() for other in paths[:index]}]
    if twice:
        raise HarnessError(f"--arm {text}", f"run {twice[0]} is named twice", "name every run once")
    return ReplicatedArm(label.strip(), tuple(_replicate(path) for path in paths))


def _replicate(path: Path) -> Replicate:
    run = complete_run(path)
    training = run.manifest.get("training")
    where = f"run {path}: its training record"
    record = None if training is None else TrainingRecord.from_json(training, where, StoreError)
    return Replicate(run.arm, str(run.manifest["identity"].get("weights", f"none: {path}")), record)
