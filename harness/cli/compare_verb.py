"""``harness compare``: two arms of evaluated training runs, judged over training seeds."""

from __future__ import annotations

import json

import click

from harness.cli import options
from harness.cli.exits import Ended
from harness.library.compare import ALPHA, compare
from harness.reports.compare_page import comparison_page
from harness.reports.render.terminal import show
from harness.runs.named import parse_arms


@click.command("compare")
@click.option("--arm", "arms", multiple=True, metavar="NAME=RUN,RUN,...", help="Twice: a name and its run folders.")
@click.option("--factor", default=None, help="The one setting in which the arms are meant to differ.")
@click.option("--alpha", default=ALPHA, show_default=True, help="One-sided, for all levels together.")
@options.json_option
def command(arms: tuple[str, ...], factor: str | None, alpha: float, as_json: bool) -> None:
    """Compare two arms over their training seeds, at every noise level that all runs have.

    A run belongs to an arm by the training.json beside its checkpoint: effective configuration, training seed, data
    order, first losses. Exit codes: 0 a difference is established at some level, 2 bad arguments or unreadable files,
    3 none is, or one training seed per arm (no claim), 4 INVALID.
    """
    options.set_up_logging(False)
    found = compare(parse_arms(arms, "--arm base=RUN,RUN,RUN"), factor, alpha)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        show(comparison_page(found.to_json()))
    raise Ended(found.exit_code)
