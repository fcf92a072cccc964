"""``harness plan``: what a noise specification will perturb in a model, before anything runs."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from harness.baselines.book import load_named
from harness.checkpoints.hub import locate, located_config
from harness.cli import options
from harness.cli.saying import say
from harness.exceptions import HarnessError
from harness.gate_options import row
from harness.gates.forecast import ASSUMED_DISCORDANCE
from harness.gates.policy_file import policy_given
from harness.library.for_gate import GateEvaluation
from harness.library.plan import PlanOptions, Power, TasksPower, plan, power, power_tasks
from harness.library.within import plan_budget
from harness.spec import EngineOptions, EvalSpec
from harness.spec.reading import read_noise
from harness.spec.several import split_names


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
@click.option("--new-tokens", default=None, type=int, help="Generated tokens, for the share of noise at some tokens.")
@click.option("--sites", is_flag=True, help="Every site by itself, not grouped by name.")
@click.option(
    "--baseline", "name", help="Say what a gate against it can tell, before anything runs. Several tasks: A,B."
)
@options.folder_option
@options.policy_options
@options.shared("kl-margin")
@options.shared("divergences")
@click.option(
    "--discordance",
    default=ASSUMED_DISCORDANCE,
    show_default=True,
    help="Share of outcomes that differ between two runs, where the baseline has one draw (fraction).",
)
@options.shared("budget", help=f"{row('budget').help} Batches are timed, nothing is evaluated.")
@options.shared("task", help="Task of a --budget without --baseline.")
@options.shared("data")
@options.shared("batch-size")
@options.adapter_options
@options.model_options
@click.option("--device", default=None, help="cpu, cuda, ...; default: the accelerator, else cpu.")
@options.json_option
def command(checkpoint: Path | None, config: Path | None, sites: bool, as_json: bool, **given: Any) -> None:
    """Show what a noise specification perturbs in CHECKPOINT, or in the model of a --config without its weights.

    For each specification: sites, expected injections, the share of the matrix products, an estimate of the cost, and
    every product that is left alone, with the reason. With --baseline also the minimum detectable effect at each level,
    the odds of the verdicts if nothing changed, and the items or noise seeds that would be enough; alone, only that.
    With --budget batches of CHECKPOINT are timed, and the items and noise seeds are shown that harness gate (with
    --baseline) or harness eval would choose within those seconds, and what they could tell.
    """
    if given["budget"] is not None:
        _budget(checkpoint, as_json, given)
        return
    options.refuse_without("--budget", ("task", "data", "batch_size"), given)
    only_power = given["name"] is not None and checkpoint is None and config is None
    if not only_power and (checkpoint is None) == (config is None):
        raise click.UsageError("give either CHECKPOINT or --config FILE", click.get_current_context())
    if only_power:
        unread = ("sites", "noise", "tokens", "new_tokens", "base", "adapter", "attention", "dtype", "device")
        options.refuse_without("CHECKPOINT or --config", unread, given | {"sites": sites})
    if config is not None:
        options.refuse_with("--config", ("base", "adapter"), given)
    foreseen = _power(given)
    report = None
    if not only_power:
        if checkpoint is not None:
            checkpoint, given["base"] = locate(checkpoint, given["base"])
        if config is not None:
            config = located_config(config)
        told = PlanOptions(**{field.name: given[field.name] for field in fields(PlanOptions)})
        options.set_up_logging(False)
        report = plan(given["noise"], checkpoint, config, told)
    _show(report, foreseen, sites, as_json)


def _budget(checkpoint: Path | None, as_json: bool, given: dict[str, Any]) -> None:
    """The dry run of a budget."""
    if checkpoint is None:
        raise HarnessError(f"--budget {given['budget']:g}", "batches of a checkpoint are timed", "give CHECKPOINT")
    options.refuse_with("--budget", ("tokens", "new_tokens", "sites", "discordance", "kl_margin", "divergences"), given)
    policy, held, spec = policy_given(given), None, None
    if given["name"] is None:
        options.refuse_without("--baseline", ("baselines_dir",), given)
        noise, levels = read_noise(given["noise"], None)
        own = {name: given[name] for name in ("task", "data", "dtype", "attention")}
        spec = EvalSpec(items=None, levels=levels, noise=noise, **own)
    else:
        options.refuse_with("--baseline", ("task", "noise"), given)
        if not Path(given["name"]).is_file() and len(split_names("--baseline", given["name"])) > 1:
            rule, way_out = "the dry run is of one task", "name one; harness gate plans several together"
            raise HarnessError(f"--budget {given['budget']:g} with --baseline {given['name']}", rule, way_out)
        held = load_named(given["baselines_dir"], given["name"])
    changes = {name: given[name] if options.on_command_line(name) else None for name in ("dtype", "attention")}
    checkpoint, base = locate(checkpoint, given["base"])
    how = GateEvaluation(
        base=base,
        adapter=given["adapter"],
        data=given["data"],
        options=EngineOptions(given["batch_size"]),
        device=given["device"],
        budget=given["budget"],
        begun=options.begun(),
        **changes,
    )
    options.set_up_logging(False)
    said = plan_budget(checkpoint, held, policy, how, spec)
    if as_json:
        click.echo(json.dumps(said.to_json(), indent=2))
    else:
        for line in said.lines:
            say(line)


def _power(given: dict[str, Any]) -> Power | TasksPower | None:
    if given["name"] is None:
        unread = (
            "margin",
            "nats_margin",
            "policy",
            "force",
            "kl_margin",
            "divergences",
            "discordance",
            "baselines_dir",
        )
        options.refuse_without("--baseline", unread, given)
        return None
    names = [] if Path(given["name"]).is_file() else list(split_names("--baseline", given["name"]))
    how = policy_given(given, ("kl_margin",)), given["discordance"], given["baselines_dir"]
    if len(names) > 1:
        options.refuse_with("several tasks", ("divergences",), given)
        return power_tasks(names, *how)
    return power(given["name"], *how, given["divergences"])


def _show(report: dict[str, Any] | None, foreseen: Power | TasksPower | None, sites: bool, as_json: bool) -> None:
    told = {} if foreseen is None else foreseen.to_json()
    if as_json:
        click.echo(json.dumps({**(report or {}), **told}, indent=2))
        return
    from harness.reports.plan_page import plan_page
    from harness.reports.power_page import power_page, tasks_power_page
    from harness.reports.render.terminal import show

    if report is not None:
        show(plan_page(report, sites))
    if isinstance(foreseen, TasksPower):
        show(tasks_power_page(told["tasks"], foreseen.sentence))
    elif foreseen is not None:
        show(power_page(told["power"], foreseen.sentence, foreseen.asked, distributions=told.get("distributions", ())))
