"""The settings of AQN on the command line, shared by its verbs."""

from __future__ import annotations

from typing import Any

import click

from harness.aqn.multipliers import FORMS
from harness.aqn.schedule import NUM_STAGES, STAGES_PER_EPOCH, Schedule, resolve_stages
from harness.cli import options
from harness.exceptions import HarnessError

_SCHEDULE = ("sigma_end", "num_stages", "steps", "epochs", "stages_per_epoch")

schedule_options = options.apply(
    click.option("--sigma-start", type=float, help="Sigma after the first warm-up."),
    click.option("--sigma-end", type=float, help="Sigma of the last stage.  [default: that of the start]"),
    click.option("--num-stages", type=int, help=f"Stages in all, a warm-up counted.  [default: {NUM_STAGES}]"),
    click.option("--steps", type=int, help="Steps of the run."),
    click.option("--epochs", type=int, help="Epoch-aware: each epoch has a warm-up and stages of its own."),
    click.option("--stages-per-epoch", type=int, help=f"Stages of each epoch.  [default: {STAGES_PER_EPOCH}]"),
)
dose_options = options.apply(
    click.option("--sigma", type=float, help="A constant sigma, instead of a schedule."),
    schedule_options,
    click.option(
        "--layer-types", default="rmsnorm", show_default=True, help="rmsnorm, layernorm, linear, with commas."
    ),
    click.option("--include", multiple=True, metavar="PATH", help="Only these: components of a path, as layers.3.mlp."),
    click.option("--exclude", multiple=True, metavar="PATH", help="Not these."),
    click.option("--multipliers", default="uniform", show_default=True, help=f"Factors of layers: {FORMS}."),
    click.option("--mode", default="absolute", show_default=True, help="absolute (in units of w) or relative (to it)."),
    click.option("--norm-dtype", default="weights", show_default=True, help="weights, or float32 for norms."),
    click.option("--seed", default=0, show_default=True, help="Seed of the draws."),
    click.option("--force", is_flag=True, help="Allow a sigma above half of the spread of the weights."),
)


def schedule_of(given: dict[str, Any]) -> Schedule:
    """Return the schedule that was given. Raises :class:`HarnessError`."""
    for name in ("sigma_start", "steps"):
        if given[name] is None:
            raise HarnessError(f"no --{name.replace('_', '-')}", "a schedule needs it", "add it")
    stages, epochs = resolve_stages(given["num_stages"], given["epochs"], given["stages_per_epoch"])
    end = given["sigma_start"] if given["sigma_end"] is None else given["sigma_end"]
    return Schedule(given["sigma_start"], end, given["steps"], stages, epochs)


def config_of(given: dict[str, Any], layers: int) -> Any:
    """Return the :class:`harness.aqn.config.AqnConfig` of :data:`dose_options` for a model of ``layers`` layers."""
    from harness.aqn.config import AqnConfig, constant
    from harness.aqn.multipliers import parse_multipliers
    from harness.aqn.targets import Targets

    if given["sigma"] is None:
        schedule = schedule_of(given)
    else:
        other = next((name for name in ("sigma_start", *_SCHEDULE) if given[name] is not None), None)
        if other is not None:
            raise HarnessError(
                f"--sigma {given['sigma']:g} with --{other.replace('_', '-')}",
                "sigma is constant or has a schedule",
                "drop one of them",
            )
        schedule = constant(given["sigma"])
    kinds = tuple(kind.strip() for kind in given["layer_types"].split(","))
    targets = Targets(kinds, tuple(given["include"]), tuple(given["exclude"]))
    if given["norm_dtype"] != "weights" and not {"rmsnorm", "layernorm"} & set(kinds):
        options.refuse_with(f"--layer-types {given['layer_types']}", ("norm_dtype",), given)
    factors = parse_multipliers(given["multipliers"], layers)
    rest = {name: given[name] for name in ("mode", "seed", "norm_dtype", "force")}
    return AqnConfig(schedule, targets, factors, **rest)
