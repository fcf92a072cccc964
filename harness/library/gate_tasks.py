"""One call from the runs of several tasks, or from a checkpoint, to one verdict; behind ``harness gate --baseline
A,B``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.baselines.book import load_named
from harness.baselines.file import Baseline, dump
from harness.checkpoints.hub import locate, located
from harness.checkpoints.there import hub_name
from harness.exceptions import HarnessError, NotComparableError, StoreError
from harness.gates.early_runs import run_to_judge
from harness.gates.policy import GatePolicy
from harness.gates.tasks import TasksResult, check_together, lacking_json
from harness.gates.tasks import gate_tasks as judge
from harness.library.for_gate import (
    CHANGES,
    GateEvaluation,
    asked_of,
    baseline_spec,
    changed,
    check_part,
    default_run_folder,
    order_seed_of,
    quick_check,
    refuse_changes,
    said_of,
)
from harness.library.foregone import announce_tasks, check_within_reach, refuse_other_key
from harness.library.gate import Gated, stored
from harness.library.within import evaluated_tasks_within, own_policy, planned_check
from harness.progress import Watcher
from harness.runs.folder import refuse_shelf
from harness.runs.loaded import Run, is_run
from harness.runs.manifest import digest
from harness.runs.several import TASKS_FILE, is_tasks, read_tasks
from harness.spec import EvalSpec

Named = Baseline | Path | str
PerTask = Mapping[str, Mapping[str, Any]]
"""Task -> what is evaluated otherwise on it alone: fields of :class:`GateEvaluation` (``data``, ``fewshot_data``)."""


@dataclass(frozen=True)
class GatedTasks:
    """The verdict over several tasks. ``gated`` holds task -> its own verdict, stored beside its run."""

    result: TasksResult
    gated: Mapping[str, Gated]

    @property
    def verdict(self) -> str:
        """PASS, FAIL, INCONCLUSIVE or INVALID: the worst of all tasks."""
        return self.result.verdict

    @property
    def exit_code(self) -> int:
        """0, 1, 3 or 4, in the order of :attr:`verdict`."""
        return self.result.exit_code

    def to_json(self) -> dict[str, Any]:
        """Return JSON types: the result, with the attempts of each task."""
        tasks = {task: each.to_json() for task, each in self.gated.items()}
        lacking = {task: lacking_json(why) for task, why in self.result.missing.items()}
        return self.result.to_json() | {"tasks": {**tasks, **lacking}}


def gate_tasks(
    target: Path | str,
    baselines: Sequence[Named],
    policy: GatePolicy | None = None,
    evaluation: GateEvaluation | None = None,
    watcher: Watcher | None = None,
    baselines_dir: Path | str = "baselines",
    per_task: PerTask | None = None,
) -> GatedTasks:
    """Judge ``target`` against the ``baselines`` of several tasks, together: one policy, one family, one verdict.

    ``target`` is the ``out`` of :func:`harness.evaluate.api.evaluate_tasks`, or a checkpoint, which is evaluated first
    on each baseline's own specification, loaded once. ``evaluation`` is as in :func:`harness.library.gate.gate`, its
    ``data`` and ``fewshot_data`` in ``per_task``. A task whose run is missing or unfinished is INVALID, and so is the
    whole.

    Raises :class:`harness.exceptions.HarnessError` for bad input, for a run that no baseline judges, and for runs of
    different checkpoints (:class:`NotComparableError`).
    """
    target, policy, evaluation = Path(target), policy or GatePolicy(), (evaluation or GateEvaluation()).started()
    held = by_task(
        [each if isinstance(each, Baseline) else load_named(Path(baselines_dir), str(each)) for each in baselines]
    )
    check_together(policy)
    quick = {task: quick_check(each, evaluation.items, evaluation.noise_seeds) for task, each in held.items()}
    asked = {task: asked_of(each, quick[task]) for task, each in held.items()}
    if is_tasks(target) or is_run(target):
        refuse_changes(target, vars(evaluation), ("base", "out", "budget", *CHANGES))
        for changes in (per_task or {}).values():
            refuse_changes(target, changes, tuple(changes))
        runs, missing = _stored_runs(target, asked)
    else:
        runs, missing = _evaluated(target, held, asked, policy, evaluation, watcher, per_task or {}), {}
    if evaluation.budget is not None:
        quick = {task: planned_check(each, runs[task]) for task, each in held.items()}
        asked = {task: asked_of(each, quick[task]) for task, each in held.items()}
    _check_one_checkpoint(runs)
    for task, run in runs.items():
        check_part(run, held[task], quick[task])
    arms = {task: (run.arm, asked[task].arm) for task, run in runs.items()}
    result = judge(arms, policy, {task: order_seed_of(each) for task, each in held.items()}, missing)
    said = {task: said_of(own, quick[task]) for task, own in result.results.items()}
    result = replace(result, results=said)
    family = f" together {digest(json.dumps({task: dump(each) for task, each in held.items()}, sort_keys=True))}"
    gated = {task: stored(runs[task], held[task], policy, own, quick[task], family) for task, own in said.items()}
    return GatedTasks(result, gated)


def by_task(baselines: Sequence[Baseline]) -> dict[str, Baseline]:
    """Return task -> its baseline. Raises :class:`HarnessError` for two of the same task, and for one of none."""
    found: dict[str, Baseline] = {}
    for each in baselines:
        task = each.arm.key.get("task")
        if task is None:
            raise HarnessError(f"baseline {each.name}", "its measurement key names no task", "accept a new run")
        if task in found:
            raise HarnessError(
                f"baselines {found[task].name} and {each.name}",
                f"both are of the task {task}, and a gate over several tasks has one for each",
                "gate them one after the other",
            )
        found[task] = each
    return found


def _stored_runs(target: Path, asked: Mapping[str, Baseline]) -> tuple[dict[str, Run], dict[str, str]]:
    """The runs to judge, and why others cannot be judged."""
    if not is_tasks(target):
        raise HarnessError(
            f"run {target} against {len(asked)} baselines",
            "it is the run of one task",
            f"give the folder that holds {TASKS_FILE}, or one baseline",
        )
    folders = read_tasks(target)
    unjudged = [task for task in folders if task not in asked]
    if unjudged:
        raise HarnessError(
            f"{target} holds a run of {unjudged[0]}, and no baseline is given for it",
            "what was evaluated is judged",
            f"give --baseline for {', '.join(folders)}, or gate {folders[next(iter(asked))]} alone"
            if set(asked) & set(folders)
            else f"give --baseline for {', '.join(folders)}",
        )
    runs, missing = {}, {}
    for task, baseline in asked.items():
        folder = folders.get(task)
        if folder is None or not is_run(folder):
            missing[task] = f"there is no run of it in {target}"
            continue
        try:
            runs[task] = run_to_judge(folder, None, baseline.arm)
        except NotComparableError as error:
            missing[task] = str(error)
    for task, run in runs.items():
        if run.arm.key.get("task") != task:
            raise StoreError(
                f"run {run.path}", f"it is of the task {run.arm.key.get('task')}, not {task}", "evaluate again"
            )
    return runs, missing


def _evaluated(
    target: Path,
    held: Mapping[str, Baseline],
    asked: Mapping[str, Baseline],
    policy: GatePolicy,
    evaluation: GateEvaluation,
    watcher: Watcher | None,
    per_task: PerTask,
) -> dict[str, Run]:
    refuse_shelf(target)
    if hub_name(str(target)) is not None:
        target = located(target)
    part = evaluation.items is not None or evaluation.noise_seeds is not None
    specs: dict[str, EvalSpec] = {}
    for task, baseline in held.items():
        given = vars(evaluation) | dict(per_task.get(task, {}))
        quick = quick_check(baseline, evaluation.items, evaluation.noise_seeds)
        specs[task] = changed(baseline_spec(baseline), given, quick)
        refuse_other_key(specs[task], baseline, given, policy.across, target)
    if evaluation.budget is None:
        announce_tasks(asked, policy, part)
    else:
        for baseline in held.values():
            check_within_reach(baseline, own_policy(baseline, policy))
    target, base = locate(target, evaluation.base)
    evaluation = replace(evaluation, base=base)
    from harness.checkpoints.source import resolve
    from harness.evaluate.api import evaluate_tasks

    source = resolve(target, base=evaluation.base, adapter=evaluation.adapter)
    if evaluation.budget is not None:
        return evaluated_tasks_within(source, specs, held, policy, evaluation, watcher)
    out = evaluation.out or {task: default_run_folder(source, spec) for task, spec in specs.items()}
    return evaluate_tasks(source, specs, out, evaluation.options, evaluation.device, watcher)


def _check_one_checkpoint(runs: Mapping[str, Run]) -> None:
    """Refuse runs of different checkpoints: a verdict over all of them would be about none."""
    first: tuple[str, Run] | None = None
    for task, run in runs.items():
        first = first or (task, run)
        for what in ("weights", "settings"):
            ours, theirs = getattr(run.arm.origin, what), getattr(first[1].arm.origin, what)
            if ours != theirs:
                raise NotComparableError(
                    f"the runs of {first[0]} and {task}",
                    f"they are of different checkpoints ({what} {theirs[:16]} and {ours[:16]})",
                    "evaluate one checkpoint on all tasks",
                )
