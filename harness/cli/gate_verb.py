"""``harness gate``: judges a run, or a checkpoint evaluated on the spot, against a baseline."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import click

from harness.baselines.book import load_named
from harness.baselines.file import Baseline
from harness.cli import options
from harness.cli.exits import Ended
from harness.cli.saying import complain, say
from harness.exceptions import HarnessError, NotComparableError, StoreError
from harness.gate_options import row
from harness.gates import INVALID
from harness.gates.policy import GatePolicy
from harness.gates.policy_file import policy_given
from harness.gates.tasks import lacking_json
from harness.library.for_gate import PROMPTING, GateEvaluation
from harness.library.gate import Gated, gate
from harness.library.gate_both import beside_baseline
from harness.library.gate_tasks import by_task, gate_tasks
from harness.progress import Silent, Watcher
from harness.reports.gate_page import gate_page
from harness.reports.render.terminal import show
from harness.reports.run_report import run_report, write_reports
from harness.reports.tasks_page import gate_tasks_page, tasks_report, write_tasks
from harness.runs.loaded import Run, is_run
from harness.runs.several import is_tasks
from harness.spec.several import split_names

GIVEN = (
    *("base", "adapter", "data", "engine", "dtype", "attention", "quantize", "out", "device"),
    *("items", "noise_seeds", "budget", "divergences"),
    *PROMPTING,
)
"""Options that are fields of :class:`GateEvaluation`."""

RUNNING = ("adapter", "device", "batch_size", "workers", "timeout", "allow_mixed_code", "budget")
"""Options that say how a checkpoint is evaluated, and have a default."""


@click.command("gate")
@click.argument("target", type=click.Path(path_type=Path))
@options.shared("baseline", required=True, help=f"{row('baseline').help} Several tasks: A,B.")
@options.folder_option
@options.policy_options
@options.shared("min-retention")
@options.shared("early-stop")
@options.shared("kl-margin")
@options.shared("divergences")
@options.shared("from-records")
@options.shared("across")
@options.quantize_option
@options.adapter_options
@options.files_option
@options.shared("out")
@options.shared("items", default=None, help="Quick check on that many of the baseline's items, in its own order.")
@options.shared("noise-seeds", default=None, help="Quick check on that many of the baseline's noise seeds.")
@options.shared("budget", help=f"{row('budget').help} In place of --items and --noise-seeds.")
@options.shared("engine", default=None, help="Another engine than the baseline's, with --across engine.")
@options.shared("dtype", default=None, help="Another dtype than the baseline's, with --across dtype.")
@options.shared("attention", default=None, help="Another attention than the baseline's, with --across attention.")
@options.prompt_options
@options.engine_options
@options.json_option
def command(target: Path, baseline: str, baselines_dir: Path, as_json: bool, **given: Any) -> None:
    """Judge TARGET, a run folder or a checkpoint, against a baseline, level by level.

    A checkpoint is evaluated first with the baseline's own specification; with --quantize it is quantized as well, and
    --across quantization says that this is what is compared. With --early-stop the items are evaluated in seeded
    random order until every level is decided, with the error rate kept; such a run is judged again by the same rule
    only. With --items or --noise-seeds a declared part of the baseline is judged, chosen by its own seeded order; every
    report says so; with --budget the part that can tell most in that many seconds, by a short calibration that looks at
    no score. With --baseline A,B a checkpoint is evaluated on the task of each, loaded once, or TARGET is the
    folder of several tasks: one policy, one family of hypotheses, and the worst verdict. With --kl-margin (or one in
    the policy) the distributions are judged as well, as harness divergence gate does: both halves must PASS. Exit
    codes: 0 PASS, 1 FAIL, 2 bad arguments or unreadable files, 3 INCONCLUSIVE, 4 INVALID.
    """
    options.set_up_logging(given["verbose"])
    policy = policy_given(given, ("min_retention", "across", "early_stop", "kl_margin"))
    several = [] if Path(baseline).is_file() else list(split_names("--baseline", baseline))
    if len(several) > 1 or is_tasks(target):
        _together(target, several or [baseline], baselines_dir, policy, as_json, given)
    held = load_named(baselines_dir, baseline)
    if policy.kl_margin is not None:
        given["divergences"] = given["divergences"] or beside_baseline(baselines_dir, baseline)
    given |= options.files_of(given, [held.arm.key.get("task", "")])[held.arm.key.get("task", "")]
    if given["from_records"] and not is_run(target):
        raise HarnessError(f"--from-records {target}", "this is not a run folder", "give the --out of an evaluation")
    if is_run(target):
        options.refuse_with(f"the finished run {target}", RUNNING, given)
    elif held.spec is not None:
        options.check_timeout(given["engine"] or str(held.spec["engine"]), given)
    how = GateEvaluation(
        **{name: given[name] for name in GIVEN}, options=options.engine_options_of(given), begun=options.begun()
    )
    try:
        with _watched(target) as watcher:
            found = gate(target, held, policy, how, watcher)
    except NotComparableError as error:
        if as_json:
            click.echo(json.dumps(_no_evidence(error, held), indent=2))
        raise
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show(gate_page(found.to_json()))
        if given["from_records"]:
            same = "the stored verdict, byte for byte" if found.repeated else "no stored verdict to compare with"
            say(same)
    _report(found, as_json)
    raise Ended(found.exit_code)


def _together(
    target: Path, names: list[str], folder: Path, policy: GatePolicy, as_json: bool, given: dict[str, Any]
) -> NoReturn:
    """The gate over several tasks, and the end of the verb."""
    if given["from_records"]:
        raise HarnessError("--from-records with several tasks", "it recomputes the verdict of one run", "leave it out")
    options.refuse_with("several tasks", ("divergences",), given)
    baselines = by_task([load_named(folder, name) for name in names])
    files = options.files_of(given, list(baselines))
    per_task = {task: {name: value for name, value in own.items() if value is not None} for task, own in files.items()}
    there = is_tasks(target) or is_run(target)
    if there:
        options.refuse_with(f"the finished runs in {target}", RUNNING, given)
    own = {name: given[name] for name in GIVEN if name not in ("data", "fewshot_data")}
    how = GateEvaluation(**own, options=options.engine_options_of(given), begun=options.begun())
    try:
        with _watched(target) as watcher:
            found = gate_tasks(target, list(baselines.values()), policy, how, watcher, folder, per_task)
    except NotComparableError as error:
        if as_json:
            click.echo(json.dumps(lacking_json(str(error)) | {"family": None, "tasks": {}}, indent=2))
        raise
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show(gate_tasks_page(found.to_json()))
    for each in found.gated.values():
        _report(each, as_json)
    together = target if there else given["out"]
    if together is not None:
        runs: dict[str, Run | None] = {task: each.run for task, each in found.gated.items()}
        write_tasks(together, tasks_report(together, runs | dict.fromkeys(found.result.missing), found.to_json()))
    raise Ended(found.exit_code)


def _watched(target: Path) -> AbstractContextManager[Watcher]:
    """A stored run is judged at once: there is no progress to show."""
    if is_run(target) or is_tasks(target):
        return nullcontext(Silent())
    from harness.reports.progress import shown

    return shown()


def _report(found: Gated, as_json: bool) -> None:
    try:
        if found.unkept:
            raise StoreError(found.unkept)
        write_reports(found.run.path, run_report(found.run, found.result, found.attempts, found.subscores))
    except StoreError as error:  # the verdict stands, also where its run lies on a read-only disk
        complain(f"no report was written: {error}")
    else:
        if not as_json:
            say(f"report: {found.run.path / 'report.md'}")


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
