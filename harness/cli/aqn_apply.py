"""``harness aqn apply``: a perturbed copy of a checkpoint with its ledger beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.checkpoints.hub import located
from harness.cli.aqn_options import config_of, dose_options
from harness.cli.options import json_option
from harness.exceptions import HarnessError


@click.command("apply")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder of the perturbed copy.")
@click.option("--step", type=int, help="Step of the schedule, which with --sigma is 0.")
@dose_options
@json_option
def command(checkpoint: Path, out: Path, step: int | None, as_json: bool, **given: Any) -> None:
    """Write a copy of CHECKPOINT (a Hugging Face folder) with noise on its weights, and the dose as aqn.json.

    An evaluation of the copy carries the dose in its measurement key.
    """
    if given["sigma"] is None and step is None:
        raise HarnessError("no --step", "a schedule has a sigma for each", "give the step, or a constant --sigma")
    if given["sigma"] is not None and step is not None:
        raise HarnessError(f"--step {step} with --sigma", "a constant sigma is the same at each", "drop --step")
    checkpoint = located(checkpoint)
    from harness.aqn.plan import refuse_idle
    from harness.aqn.stored import layers_of, perturbed_copy
    from harness.checkpoints.outline import build_outline
    from harness.reports.aqn_page import copy_page
    from harness.reports.render.terminal import show

    outline = build_outline(checkpoint)
    config = config_of(given, layers_of(outline))
    refuse_idle(outline, config.targets)
    written = perturbed_copy(checkpoint, config, step or 0, out)
    if as_json:
        click.echo(json.dumps({"out": str(out), "aqn": written.text, **written.ledger}, indent=2, allow_nan=False))
        return
    show(copy_page(written.ledger["dose"]["layers"], written.text, str(out)))
