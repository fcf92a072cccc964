"""``harness eval``: evaluates a checkpoint into a run folder, or on several tasks into one for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.checkpoints.hub import locate
from harness.cli import options
from harness.cli.exits import Ended
from harness.cli.saying import say
from harness.evaluate.tasks import load_task
from harness.gate_options import row
from harness.gates.policy import GatePolicy
from harness.gates.policy_file import policy_given
from harness.record import INVALID_EVIDENCE
from harness.runs.several import check_tasks
from harness.spec import EvalSpec


@click.command("eval")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder; an unfinished one is resumed.")
@options.adapter_options
@options.spec_options
@options.shared("budget", help=f"{row('budget').help} In place of --items and --noise-seeds.")
@options.policy_options
@options.engine_options
@click.option("--ledger", is_flag=True, help="Show what was counted at every site.")
@options.json_option
def command(checkpoint: Path, out: Path, ledger: bool, as_json: bool, **given: Any) -> None:
    """Evaluate CHECKPOINT at every noise level, with proof that the noise was on.

    CHECKPOINT is a Hugging Face folder, a LoRA adapter with its base, or a verl checkpoint with FSDP shards.
    Records go into the run folder OUT batch by batch: Ctrl-C loses at most the running batch, the same command
    resumes, and a finished run is left as it is. With --task A,B the model is loaded once, and OUT holds a run folder
    for each task. With --budget a short calibration times this checkpoint, and as many items and noise seeds are
    evaluated as a gate can tell most with in that time: under --margin or --policy, which nothing else reads. Exit code
    4 if the evidence is INVALID, of any task.
    """
    options.set_up_logging(given["verbose"])
    options.check_budget(given)
    if given["budget"] is None:
        options.refuse_without("--budget", ("margin", "policy", "force"), given)
    policy = policy_given(given)
    specs = options.build_specs(given | {"all_items": given["all_items"] or given["budget"] is not None})
    if len(specs) > 1:
        if ledger:
            options.refuse_with("several tasks", ("ledger",), given | {"ledger": ledger})
        check_tasks(out, tuple(specs))
    for spec in specs.values():
        options.check_timeout(spec.engine, given)
        if spec.data is None:  # what a hub has to give is asked for before torch is imported
            load_task(spec.task, None).items()
    checkpoint, given["base"] = locate(checkpoint, given["base"])
    valid = _several(checkpoint, specs, out, as_json, given, policy) if len(specs) > 1 else None
    if valid is None:
        (spec,) = specs.values()
        valid = _one(checkpoint, spec, out, (as_json, ledger), given, policy)
    if not valid:
        raise Ended(4)


def _one(
    checkpoint: Path,
    spec: EvalSpec,
    out: Path,
    shown_how: tuple[bool, bool],
    given: dict[str, Any],
    policy: GatePolicy,
) -> bool:
    from harness.checkpoints.source import CheckpointRef
    from harness.cli.output import show_run
    from harness.evaluate.api import evaluate
    from harness.evaluate.within import Budget, assumed, evaluate_within
    from harness.reports.progress import shown

    source = CheckpointRef(checkpoint, given["base"], given["adapter"])
    how = options.engine_options_of(given), given["device"]
    with shown() as watcher:
        if given["budget"] is None:
            run = evaluate(source, spec, out, *how, watcher=watcher)
        else:
            budget = Budget(given["budget"], assumed(policy), begun=options.begun())
            run = evaluate_within(source, spec, out, budget, *how, watcher)
    return show_run(run, *shown_how).status != INVALID_EVIDENCE


def _several(
    checkpoint: Path,
    specs: dict[str, EvalSpec],
    out: Path,
    as_json: bool,
    given: dict[str, Any],
    policy: GatePolicy,
) -> bool:
    from harness.checkpoints.source import CheckpointRef
    from harness.evaluate.api import evaluate_tasks
    from harness.evaluate.within import Budget, assumed
    from harness.evaluate.within_tasks import evaluate_tasks_within
    from harness.reports.progress import shown
    from harness.reports.render.terminal import show
    from harness.reports.tasks_page import tasks_page, tasks_report, write_tasks

    source = CheckpointRef(checkpoint, given["base"], given["adapter"])
    how = options.engine_options_of(given), given["device"]
    with shown() as watcher:
        if given["budget"] is None:
            runs = evaluate_tasks(source, specs, out, *how, watcher)
        else:
            budgets = dict.fromkeys(specs, Budget(given["budget"], assumed(policy), begun=options.begun()))
            runs = evaluate_tasks_within(source, specs, out, budgets, *how, watcher)
    report = tasks_report(out, runs)
    write_tasks(out, report)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show(tasks_page(report))
        say(f"report: {out / 'report.md'}")
    return all(run.arm.certificate.status != INVALID_EVIDENCE for run in runs.values())
