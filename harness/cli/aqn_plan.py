"""``harness aqn plan``: what would be perturbed, and how large sigma is beside the weights of each layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli.aqn_options import config_of, dose_options, shortened
from harness.cli.options import json_option


@click.command("plan")
@click.argument("checkpoint", type=click.Path(path_type=Path), required=False)
@click.option("--config", type=click.Path(path_type=Path), help="A config.json or its folder: no weights to look at.")
@dose_options
@json_option
def command(checkpoint: Path | None, config: Path | None, as_json: bool, **given: Any) -> None:
    """Show the targets in CHECKPOINT, or in the model of a --config, with sigma / std(w) of each.

    Exit code 2 where nothing is matched, and where sigma is more than half of the spread of a layer's weights (std(w)
    of a matrix, the root mean square of a norm's gain), unless it is forced.
    """
    if (checkpoint is None) == (config is None):
        raise click.UsageError("give either CHECKPOINT or --config FILE", click.get_current_context())
    from harness.aqn.holder import ModuleHolder, WeightHolder
    from harness.aqn.plan import plan_of
    from harness.aqn.stored import StoredHolder, layers_of
    from harness.checkpoints.outline import build_outline

    holder: WeightHolder
    if checkpoint is not None:
        holder = StoredHolder(checkpoint)
        layers = layers_of(holder.outline)
    else:
        assert config is not None
        outline = build_outline(config)
        holder, layers = ModuleHolder(outline), layers_of(outline)
    plan = plan_of(holder, config_of(given, layers))
    plan.check()
    if as_json:
        click.echo(json.dumps(plan.to_json(), indent=2, allow_nan=False))
        return
    elements = sum(each.elements for each in plan.targets)
    click.echo(
        f"{len(plan.targets)} targets, {elements:,} elements; sigma {plan.sigma:g} ({plan.config.mode}) from step "
        f"{plan.step} on; settings {plan.effective}"
    )
    click.echo(f"kinds: {', '.join(sorted({each.kind for each in plan.targets}))}")
    prefix, names = shortened([each.name for each in plan.targets])
    width = max(len(prefix), *map(len, names))
    click.echo(f"{prefix:<{width}} {'elements':>10} {'factor':>7} {'sigma':>8} {'/std(w)':>8} {'/spread':>8}")
    for each, name in zip(plan.targets, names, strict=True):
        ratio = each.asked / each.deviation if each.asked is not None and each.deviation else None
        shown = " ".join(f"{_number(value):>8}" for value in (each.asked, ratio, each.relative))
        click.echo(f"{name:<{width}} {each.elements:>10,} {each.multiplier:>7.3g} {shown}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
