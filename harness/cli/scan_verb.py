"""``harness scan``: what number formats do to a checkpoint's weights, activations and answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from harness.answers import FLEXIBLE, STRICT
from harness.checkpoints.hub import locate
from harness.checkpoints.modes import ADAPTER_MODES, MERGED
from harness.cli import options
from harness.cli.saying import say
from harness.diagnostics.scan_spec import (
    POLICIES,
    WEIGHTS,
    WHATS,
    ScanSpec,
    TaskChoice,
    check_spec,
    parse_recipes,
)
from harness.exceptions import HarnessError
from harness.spec import nearest
from harness.spec.formats import SCALE_RULES

TASK_OPTIONS = ("data", "items", "item_seed", "scorer", "max_new_tokens")
ANSWER_OPTIONS = ("scorer", "max_new_tokens")
"""What is read only where answers are generated."""
MODEL_OPTIONS = ("batch_size", "device", "attention", "dtype")
"""What is read only where a model runs: weights alone are taken from the files as they are stored."""


@click.command("scan")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--format", "formats", required=True, metavar="F,F,...", help="mxfp4, nvfp4, mxfp8, int4_g128, ...")
@click.option(
    "--scale-rule",
    default=SCALE_RULES[0],
    show_default=True,
    help=f"{', '.join(SCALE_RULES)}; for the formats with power-of-two scales.",
)
@click.option("--what", default=WEIGHTS, show_default=True, help=f"{', '.join(WHATS)}.")
@click.option("--task", default=None, help="arith, gsm8k: the inputs of activations and the answers of the effect.")
@click.option("--data", default=None, metavar="FILE", help="JSONL or Parquet of the task's items.")
@click.option("--items", default=64, show_default=True, help="Items, chosen in a seeded order; 0 is an error.")
@click.option("--item-seed", default=0, show_default=True, help="Seed of the choice of items.")
@click.option("--scorer", default=None, help=f"{STRICT}, {FLEXIBLE}; default: the task's own.")
@click.option("--max-new-tokens", default=None, type=int, help="Longest answer; default: the task's own.")
@click.option(
    "--effect/--no-effect",
    default=None,
    help="KL and accuracy with each layer alone quantized.  [default: with a task]",
)
@click.option("--include", multiple=True, metavar="GLOB", help="Bring in what is left out by default, as lm_head.")
@click.option("--adapter", default=MERGED, show_default=True, help=f"A LoRA adapter: {', '.join(ADAPTER_MODES)}.")
@click.option("--base", type=click.Path(path_type=Path), help="Base checkpoint of an adapter; default: its config's.")
@click.option("--policy", default=POLICIES[0], show_default=True, help=f"Has the last word: {', '.join(POLICIES)}.")
@click.option("--modules", is_flag=True, help="Every module by itself, besides the layers.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the reports; an unfinished scan is resumed.")
@options.model_options
@options.shared("batch-size")
@options.shared("device")
@options.verbose_option
@options.json_option
def command(checkpoint: Path, policy: str, modules: bool, out: Path | None, as_json: bool, **given: Any) -> None:
    """Show what number formats do to CHECKPOINT (a Hugging Face folder, or a LoRA adapter with its base).

    Weights are read from the files one tensor at a time, so that a model need not fit into memory. Every figure stands
    beside what the format gives on Gaussian data of the same scale. With --task: activations on its prompts (--what)
    and the effect of each layer on the model's own answers.
    """
    options.set_up_logging(given["verbose"])
    if policy not in POLICIES:
        raise HarnessError(f"--policy {policy}", f"it is one of {', '.join(POLICIES)}", nearest(policy, POLICIES))
    spec = _spec(checkpoint, given)
    checkpoint, base = locate(checkpoint, given["base"])
    spec = replace(spec, checkpoint=checkpoint, base=base)
    from harness.diagnostics.scan_run import scan
    from harness.reports.progress import shown
    from harness.reports.render.terminal import show
    from harness.reports.scan_page import scan_page, scan_report, write_scan

    with shown() as watcher:
        result = scan(spec, out, watcher)
    files = write_scan(out, result, policy) if out is not None else ()
    if as_json:
        click.echo(json.dumps(scan_report(result, policy), indent=2, allow_nan=False))
        return
    show(scan_page(result, policy, modules))
    for file in files:
        say(f"report: {file}")


def _spec(checkpoint: Path, given: dict[str, Any]) -> ScanSpec:
    if given["items"] < 1:
        raise HarnessError(f"--items {given['items']}", "at least one item is needed", "give a positive number")
    task = None
    if given["task"] is None:
        options.refuse_without("--task", (*TASK_OPTIONS, *MODEL_OPTIONS), given)
    if given["task"] is not None:
        if given["effect"] is False and given["what"] == WEIGHTS:
            options.refuse_with(f"--no-effect and --what {WEIGHTS}", ("task",), given)
        if given["effect"] is False:
            options.refuse_with("--no-effect", ANSWER_OPTIONS, given)
        task = TaskChoice(given["task"], **{name: given[name] for name in TASK_OPTIONS})
    spec = ScanSpec(
        checkpoint,
        parse_recipes(given["formats"], given["scale_rule"]),
        what=given["what"],
        task=task,
        effect=task is not None if given["effect"] is None else given["effect"],
        include=tuple(given["include"]),
        base=given["base"],
        **{name: given[name] for name in ("adapter", "dtype", "attention", "device", "batch_size")},
    )
    check_spec(spec, effect_asked=bool(given["effect"]))
    return spec
