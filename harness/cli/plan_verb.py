"""``harness plan``: what a noise specification will perturb in a model, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.baselines.book import load_named
from harness.cli import options
from harness.exceptions import HarnessError
from harness.gates.forecast import ASSUMED_DISCORDANCE, LevelForecast, forecast, joint_odds, joint_sentence
from harness.gates.policy_file import policy_given
from harness.spec import ATTENTIONS, DTYPES, nearest
from harness.spec.reading import read_noises


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
@click.option("--baseline", "name", help="Say what a gate against this baseline can tell, before anything runs.")
@options.folder_option
@options.policy_options
@click.option(
    "--discordance",
    default=ASSUMED_DISCORDANCE,
    show_default=True,
    help="Share of outcomes that differ between two runs, where the baseline has one draw (fraction).",
)
@options.adapter_options
@options.model_options
@click.option("--device", default=None, help="cpu, cuda, ...; default: the accelerator, else cpu.")
@options.json_option
def command(checkpoint: Path | None, config: Path | None, sites: bool, as_json: bool, **given: Any) -> None:
    """Show what a noise specification perturbs in CHECKPOINT, or in the model of a --config without its weights.

    For each specification: sites, expected injections, the share of the matrix products, an estimate of the cost, and
    every product that is left alone, with the reason. With --baseline also the minimum detectable effect at each level,
    the odds of the verdicts if nothing changed, and the items or noise seeds that would be enough; alone, only that.
    """
    only_power = given["name"] is not None and checkpoint is None and config is None
    if not only_power and (checkpoint is None) == (config is None):
        raise click.UsageError("give either CHECKPOINT or --config FILE", click.get_current_context())
    power = None if given["name"] is None else _power(given)
    if only_power:
        _show(None, power, sites, as_json)
        return
    if given["tokens"] < 1:
        raise HarnessError(f"--tokens {given['tokens']}", "a pass has at least one token", "give 1 or more")
    for option, known in (("attention", ATTENTIONS), ("dtype", DTYPES)):
        if given[option] not in known:
            raise HarnessError(f"--{option} {given[option]}", nearest(given[option], known))
    options.set_up_logging(False)
    noises = read_noises(given["noise"])
    from harness.evaluate.planning import from_checkpoint, from_config, plan_report

    if checkpoint is not None:
        source = from_checkpoint(checkpoint, noises, given)
    else:
        assert config is not None
        source = from_config(config, noises, given)
    _show(plan_report(source, noises, given["tokens"]), power, sites, as_json)


def _power(given: dict[str, Any]) -> tuple[LevelForecast, ...]:
    baseline, policy = load_named(given["baselines_dir"], given["name"]), policy_given(given)
    policy.check_judged(policy.levels or baseline.arm.outcomes)
    return forecast(baseline.arm, policy, given["discordance"])


def _show(report: dict[str, Any] | None, power: tuple[LevelForecast, ...] | None, sites: bool, as_json: bool) -> None:
    levels = [level.to_json() for level in power or ()]
    if as_json:
        told = {} if power is None else {"power": levels, "whole_gate": joint_odds(power).to_json()}
        click.echo(json.dumps({**(report or {}), **told}, indent=2))
        return
    from harness.reports.plan_tables import print_plan
    from harness.reports.power_table import print_power

    if report is not None:
        print_plan(report, sites)
    if power is not None:
        print_power(levels, joint_sentence(power))
