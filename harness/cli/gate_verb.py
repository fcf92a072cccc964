"""``harness gate``: judges a run, or a checkpoint evaluated on the spot, against a baseline."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.baselines.book import load_named
from harness.baselines.file import Baseline, dump
from harness.cli import options
from harness.cli.exits import Ended
from harness.exceptions import HarnessError, NotComparableError, StoreError
from harness.gates import INVALID, GateResult, gate
from harness.gates.early import EarlyPlan, check_independent, plan_of
from harness.gates.early_runs import run_to_judge
from harness.gates.forecast import forecast, joint_sentence
from harness.gates.policy import GatePolicy
from harness.reports.run_report import run_report, write_reports
from harness.reports.terminal import print_gate
from harness.revision import FILES, MEASURING, revision
from harness.runs.attempts import Attempt, count_attempt
from harness.runs.loaded import Run, is_run
from harness.runs.manifest import digest
from harness.runs.verdicts import check_verdict, keep_verdict, verdict_file
from harness.spec import EvalSpec, parse_quantization

if TYPE_CHECKING:
    from harness.checkpoints.source import Source

RUNS = Path("runs")
CHANGES = ("data", "engine", "dtype", "attention", "quantize")
"""What a gate may evaluate otherwise than its baseline was."""


log = logging.getLogger(__name__)


@click.command("gate")
@click.argument("target", type=click.Path(path_type=Path))
@options.shared("baseline", required=True)
@options.folder_option
@options.policy_options
@options.shared("min-retention")
@options.shared("early-stop")
@options.shared("from-records")
@options.shared("across")
@options.quantize_option
@options.adapter_options
@options.data_option
@options.shared("out")
@options.shared("engine", default=None, help="Another engine than the baseline's, with --across engine.")
@options.shared("dtype", default=None, help="Another dtype than the baseline's, with --across dtype.")
@options.shared("attention", default=None, help="Another attention than the baseline's, with --across attention.")
@options.engine_options
@options.json_option
def command(target: Path, baseline: str, baselines_dir: Path, as_json: bool, **given: Any) -> None:
    """Judge TARGET, a run folder or a checkpoint, against a baseline, level by level.

    A checkpoint is evaluated first with the baseline's own specification; with --quantize it is quantized as well, and
    --across quantization says that this is what is compared. With --early-stop the items are evaluated in seeded
    random order until every level is decided, with the error rate kept; such a run is judged again by the same rule
    only. Exit codes: 0 PASS, 1 FAIL, 2 bad arguments or unreadable files, 3 INCONCLUSIVE, 4 INVALID.
    """
    options.set_up_logging(given["verbose"])
    policy = options.build_policy(given, ("min_retention", "across", "early_stop"))
    held = load_named(baselines_dir, baseline)
    policy.check_judged(policy.levels or held.arm.outcomes)
    plan = early_plan(policy, held)
    if not is_run(target):
        log.info("%s", joint_sentence(forecast(held.arm, policy)))
    try:
        run = _stored(target, held, plan, given) if is_run(target) else _evaluate(target, held, plan, given)
    except NotComparableError as error:
        if as_json:
            click.echo(json.dumps(_no_evidence(error, held), indent=2))
        raise
    result = gate(run.arm, held.arm, policy, order_seed_of(held))
    found = result.to_json()
    kept = verdict_file(run.path, dump(held), repr(policy))
    known = check_verdict(kept, found)
    attempts = count_attempt(run.path, attempt_of(held, policy, result))
    if as_json:
        click.echo(json.dumps(found | {"attempts": attempts}, indent=2))
    else:
        print_gate(found | {"attempts": attempts})
        if given["from_records"]:
            click.echo("the stored verdict, byte for byte" if known else "no stored verdict to compare with")
    try:
        if not known:
            keep_verdict(kept, found)
        write_reports(run.path, run_report(run, result, attempts))
    except StoreError as error:  # the verdict stands, also where its run lies on a read-only disk
        click.echo(f"harness: no report was written: {error}", err=True)
    else:
        if not as_json:
            click.echo(f"report: {run.path / 'report.md'}")
    raise Ended(result.exit_code)


def attempt_of(baseline: Baseline, policy: GatePolicy, result: GateResult, session: str = "") -> Attempt:
    """What is kept of a gating; ``session`` names the test session that judges level by level."""
    limits = (policy.margin, policy.margins, policy.min_retention, policy.retentions)
    return Attempt(digest(dump(baseline)), repr(limits), repr(policy), result.verdict, session)


def _no_evidence(error: NotComparableError, baseline: Baseline) -> dict[str, Any]:
    """The JSON object of a gate that could not even begin."""
    return {
        "verdict": INVALID,
        "exit_code": error.exit_code,
        "reasons": [str(error)],
        "levels": [],
        "family": None,
        "certificate": None,
        "baseline": {"label": baseline.arm.label, "status": baseline.arm.certificate.status},
    }


def baseline_spec(baseline: Baseline) -> EvalSpec:
    """The baseline's own evaluation specification."""
    if baseline.spec is None:
        raise NotComparableError(
            f"baseline {baseline.name} is external, uncertified",
            "it holds no evaluation specification to repeat",
            "score the checkpoint's completions with harness score and gate that run",
        )
    return EvalSpec.from_json(dict(baseline.spec))


def order_seed_of(baseline: Baseline) -> int:
    """The seed of the items' random order under early stopping: that of the baseline's choice of items."""
    return 0 if baseline.spec is None else int(baseline.spec["item_seed"])


def early_plan(policy: GatePolicy, baseline: Baseline) -> EarlyPlan | None:
    """The rule by which an evaluation for a gate against ``baseline`` stops early, ``None`` without early stopping.

    Raises :class:`HarnessError` where ``policy`` asks for it and the baseline's items share their draws.
    """
    levels = policy.levels or tuple(baseline.arm.outcomes)
    plan = plan_of(policy, levels, order_seed_of(baseline), digest(dump(baseline)))
    if plan is not None:
        check_independent(plan, baseline.arm)
    return plan


def default_run_folder(
    checkpoint: Path | Source, spec: EvalSpec, folder: Path = RUNS, plan: EarlyPlan | None = None
) -> Path:
    """Where a gate keeps its evaluation: the same checkpoint, data, specification, rule of early stopping and sources
    of the harness resume the same folder."""
    from harness.checkpoints.source import as_source

    data = Path(spec.data) if spec.data is not None else None
    content = hashlib.sha256(data.read_bytes()).hexdigest() if data is not None and data.is_file() else ""
    source = as_source(checkpoint)
    parts = [source.weights, source.settings, content, json.dumps(spec.to_json()), revision(MEASURING, FILES)]
    parts += [] if plan is None else [json.dumps(plan.to_json())]
    label = digest("|".join(parts))
    return folder / f"gate-{source.path.resolve().name}-{label}"


def refuse_changes(target: Path, given: Mapping[str, Any], names: Sequence[str] = ("base", *CHANGES)) -> None:
    """Raise :class:`HarnessError` where ``given`` asks ``target``, a finished run, for another evaluation."""
    for name in names:
        if given[name] is not None:
            option = f"--{name.replace('_', '-')} {given[name]}"
            raise HarnessError(option, f"{target} is a run, made as it was made", "give the checkpoint")


def changed(spec: EvalSpec, given: Mapping[str, Any]) -> EvalSpec:
    """``spec`` with what ``given`` says of :data:`CHANGES` in place of its own."""
    changes = {name: given[name] for name in CHANGES if name != "quantize" and given[name] is not None}
    if given["quantize"] is not None:
        changes["quantization"] = parse_quantization(given["quantize"])
    return replace(spec, **changes)


def _stored(target: Path, baseline: Baseline, plan: EarlyPlan | None, given: Mapping[str, Any]) -> Run:
    """A finished run; its verdict needs nothing but its records."""
    refuse_changes(target, given)
    return run_to_judge(target, plan, baseline.arm)


def _evaluate(target: Path, baseline: Baseline, plan: EarlyPlan | None, given: dict[str, Any]) -> Run:
    if given["from_records"]:
        raise HarnessError(f"--from-records {target}", "this is no run folder", "give the --out of an evaluation")
    from harness.checkpoints.source import resolve
    from harness.cli.evaluation import evaluate_with_progress
    from harness.evaluate.early import EarlyStopping

    spec = changed(baseline_spec(baseline), given)
    source = resolve(target, base=given["base"], adapter=given["adapter"])
    out = given["out"] or default_run_folder(source, spec, plan=plan)
    early = None if plan is None else EarlyStopping(plan, baseline.arm)
    how = options.engine_options_of(given)
    return evaluate_with_progress(source, spec, out, options=how, device=given["device"], early=early)
