"""``harness plan``: what a noise specification will perturb in a model, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli import options
from harness.exceptions import HarnessError
from harness.spec import ATTENTIONS, DTYPES, nearest


@click.command("plan")
@click.argument("checkpoint", type=click.Path(path_type=Path), required=False)
@click.option(
    "--config", type=click.Path(path_type=Path), help="A config.json or its folder instead of CHECKPOINT: no weights."
)
@click.option(
    "--noise",
    default=options.DEFAULT_NOISE,
    show_default=True,
    help="Noise specification, several separated by ;, or a .toml file with one or more.",
)
@click.option("--tokens", default=1, show_default=True, help="Tokens of the forward pass to count for.")
@click.option("--sites", is_flag=True, help="Every site by itself, not grouped by name.")
@options.model_options
@click.option("--device", default=None, help="cpu, cuda, ...; default: the accelerator, else cpu.")
@options.json_option
def command(checkpoint: Path | None, config: Path | None, sites: bool, as_json: bool, **given: Any) -> None:
    """Show what a noise specification perturbs in CHECKPOINT, or in the model of a --config without its weights.

    For each specification: sites, expected injections, the share of the matrix products, an estimate of the cost, and
    every product that is left alone, with the reason.
    """
    if (checkpoint is None) == (config is None):
        raise click.UsageError("give either CHECKPOINT or --config FILE", click.get_current_context())
    if given["tokens"] < 1:
        raise HarnessError(f"--tokens {given['tokens']}", "a pass has at least one token", "give 1 or more")
    for option, known in (("attention", ATTENTIONS), ("dtype", DTYPES)):
        if given[option] not in known:
            raise HarnessError(f"--{option} {given[option]}", nearest(given[option], known))
    options.set_up_logging(False)
    noises = options.every_noise(given["noise"])
    from harness.cli.planning import from_checkpoint, from_config, plan_report
    from harness.reports.plan_tables import print_plan

    if checkpoint is not None:
        source = from_checkpoint(checkpoint, noises, given)
    else:
        assert config is not None
        source = from_config(config, noises, given)
    report = plan_report(source, noises, given["tokens"])
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_plan(report, sites)
