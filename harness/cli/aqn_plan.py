"""``harness aqn plan``: what would be perturbed, and how large sigma is beside the weights of each layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.checkpoints.hub import located, located_config
from harness.cli.aqn_options import config_of, dose_options
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
    if checkpoint is not None:
        checkpoint = located(checkpoint)
    if config is not None:
        config = located_config(config)
    from harness.aqn.holder import ModuleHolder, WeightHolder
    from harness.aqn.plan import plan_of, refuse_idle
    from harness.aqn.stored import StoredHolder, layers_of
    from harness.checkpoints.outline import build_outline
    from harness.reports.aqn_page import plan_page
    from harness.reports.render.terminal import show

    holder: WeightHolder
    if checkpoint is not None:
        holder = stored = StoredHolder(checkpoint)
        outline = stored.outline
    else:
        assert config is not None
        outline = build_outline(config)
        holder = ModuleHolder(outline)
    settings = config_of(given, layers_of(outline))
    refuse_idle(outline, settings.targets)
    plan = plan_of(holder, settings)
    plan.check()
    if as_json:
        click.echo(json.dumps(plan.to_json(), indent=2, allow_nan=False))
        return
    show(plan_page(plan.to_json()))
