"""``harness divergence gate``: judges a checkpoint, or a run, against a reference of distributions."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from harness.cli import options
from harness.cli.exits import Ended
from harness.gates.divergence import DivergencePolicy
from harness.library.divergence import Candidate, diverge
from harness.progress import Silent, Watcher
from harness.reports.divergence_page import divergence_page
from harness.reports.render.terminal import show
from harness.runs.loaded import is_run
from harness.spec import parse_quantization
from harness.thresholds import ALPHA

COMPUTED = ("device", "engine", "dtype", "attention")
RUNNING = (*COMPUTED, "base", "adapter", "quantize", "out", "batch_size", "workers", "timeout", "allow_mixed_code")


@click.command("gate")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--reference", type=click.Path(path_type=Path), required=True, help="The --out of divergence record.")
@click.option("--kl-margin", type=float, required=True, metavar="NATS", help="Largest mean divergence, nats a token.")
@click.option("--alpha", default=ALPHA, show_default=True, help="One-sided, for each PASS and for any FAIL.")
@options.shared("across")
@options.quantize_option
@options.adapter_options
@options.shared("out")
@options.shared("engine", default=None, help="Another engine than the reference's, with --across engine.")
@options.shared("dtype", default=None, help="Another dtype than the reference's, with --across dtype.")
@options.shared("attention", default=None, help="Another attention than the reference's, with --across attention.")
@options.engine_options
@options.json_option
def command(target: Path, reference: Path, kl_margin: float, alpha: float, as_json: bool, **given: Any) -> None:
    """Judge TARGET, a checkpoint or a run against the same reference, level by level.

    A checkpoint scores the reference's answers first, under the same draws of noise. PASS where the upper bound of the
    mean divergence of the next-token distributions lies below the margin. Exit codes: 0 PASS, 1 FAIL, 2 bad arguments
    or unreadable files, 3 INCONCLUSIVE, 4 INVALID.
    """
    options.set_up_logging(given["verbose"])
    policy = DivergencePolicy(kl_margin, alpha, given["across"])
    if is_run(target):
        options.refuse_with(f"the finished run {target}", RUNNING, given)
    quantization = None if given["quantize"] is None else parse_quantization(given["quantize"])
    asked = {name: given[name] for name in COMPUTED}
    how = Candidate(given["base"], given["adapter"], quantization, given["out"], **asked)
    with _watched(target) as watcher:
        found = diverge(target, reference, policy, how, options.engine_options_of(given), watcher)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        show(divergence_page(found.to_json()))
    raise Ended(found.exit_code)


def _watched(target: Path) -> AbstractContextManager[Watcher]:
    """A stored run is judged at once: there is no progress to show."""
    if is_run(target):
        return nullcontext(Silent())
    from harness.reports.progress import shown

    return shown()
