"""Several tasks of one checkpoint within one budget: all are timed, then planned together, then run one after the
other."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.checkpoints.source import AnyCheckpoint, as_source
from harness.engines.registry import engine_kind
from harness.evaluate.api import STAGE, evaluate_tasks, run_prepared_into
from harness.evaluate.opening import engine_of
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.tasks import load_task
from harness.evaluate.within import Budget, Timed, check_one_engine, record, stored_choice, timed
from harness.exceptions import HarnessError, StoreError
from harness.gates.budget import BudgetPlan
from harness.gates.budget_tasks import choose_together, joint
from harness.gates.budget_words import plan_line, together_lines
from harness.progress import Silent, Watcher
from harness.runs.loaded import Run
from harness.runs.several import begin_tasks, check_tasks, run_folders
from harness.runs.store import Store
from harness.spec import EngineOptions, EvalSpec

log = logging.getLogger(__name__)


def evaluate_tasks_within(
    checkpoint: AnyCheckpoint | str,
    specs: Mapping[str, EvalSpec],
    out: Path | str | Mapping[str, Path],
    budgets: Mapping[str, Budget],
    options: EngineOptions | None = None,
    device: str | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Run]:
    """Do as :func:`harness.evaluate.within.evaluate_within` for several tasks at once, and return task -> its run.

    ``budgets`` (task -> budget) are of the same seconds, which all tasks share: they are split so that the task that
    can tell least tells as much as it can. All choices are stored before anything is evaluated. ``out`` is as in
    :func:`harness.evaluate.api.evaluate_tasks`. Refused where the engine has a process of its own: it would start
    twice for each task.
    """
    options, watcher = options or EngineOptions(), watcher or Silent()
    check_one_engine(options)
    first = next(iter(budgets.values()))
    first = replace(first, begun=first.start())
    seconds = first.seconds
    budgets = {task: replace(budget, begun=first.begun) for task, budget in budgets.items()}
    if not isinstance(out, Mapping):
        check_tasks(Path(out), tuple(specs))
    folders = dict(out) if isinstance(out, Mapping) else run_folders(Path(out), tuple(specs))
    kept = {task: stored_choice(folders[task], seconds) for task in specs}
    planned = {task: choice for task, choice in kept.items() if choice is not None}
    if len(planned) == len(specs):
        log.info("planned before for a budget of %g s: %s", seconds, ", ".join(map(_said, planned.items())))
        chosen = {task: _chosen(spec, *planned[task]) for task, spec in specs.items()}
        return evaluate_tasks(checkpoint, chosen, out, options, device, watcher)
    if planned:
        lacking = next(task for task in specs if task not in planned)
        rule = f"there is a plan of {next(iter(planned))} and none of {lacking}: they were planned apart"
        raise StoreError(f"--budget {seconds:g} with several tasks", rule, "use another --out")
    found = _timed(checkpoint, specs, budgets, options, device)
    designs = {task: each.design for task, each in found.items()}
    costs = {task: replace(each.costs, spent=0.0) for task, each in found.items()}
    spent = first.gone() + sum(each.again for each in found.values())
    plans = choose_together(designs, costs, spent, seconds)
    for task, plan in plans.items():
        budgets[task].admit(plan.items, plan.noise_seeds)
        shown = replace(costs[task], spent=spent)
        watcher.cost(f"{task}: {plan_line(plan, shown, seconds, designs[task].said)}")
    for line in together_lines(len(plans), spent + sum(map(_forecast, plans.values())), joint(plans, designs)):
        watcher.cost(line)
    ready: dict[str, Prepared] = {}
    for task, plan in plans.items():
        loaded = found[task].prepared.checkpoint
        chosen_spec = _chosen(specs[task], plan.items, plan.noise_seeds)
        kept_choice = record(plan, designs[task], costs[task], seconds) | {"together": list(specs)}
        ready[task] = replace(prepare(loaded.source, chosen_spec, device, loaded=loaded), budget=kept_choice)
    if not isinstance(out, Mapping):
        begin_tasks(Path(out), tuple(specs))
    for task, each in ready.items():
        with Store.create(folders[task], each.manifest(), options.mixed_code):
            pass  # its choice is stored
    runs: dict[str, Run] = {}
    for task, each in ready.items():
        engine = engine_of(each, options, device)
        runs[task] = run_prepared_into(each, folders[task], options, None, watcher, engine, f"{task}: {STAGE}")
    log.info("budget %g s: taken %.0f s", seconds, first.gone())
    return runs


def _timed(
    checkpoint: AnyCheckpoint | str,
    specs: Mapping[str, EvalSpec],
    budgets: Mapping[str, Budget],
    options: EngineOptions,
    device: str | None,
) -> dict[str, Timed]:
    """What every task costs, each share of the timing as large; a model is loaded once for all that ask for it."""
    for spec in specs.values():
        if not engine_kind(spec.engine).loads:
            raise HarnessError(
                f"--budget with several tasks and --engine {spec.engine}",
                "it would start twice for each of them, to be timed and to run",
                "give --items and --noise-seeds, or one task at a time",
            )
        load_task(spec.task, None if spec.data is None else Path(spec.data)).items()  # before a model is loaded
    source = as_source(Path(checkpoint) if isinstance(checkpoint, str) else checkpoint)
    loaded: dict[tuple[Any, ...], Prepared] = {}
    found: dict[str, Timed] = {}
    for task, spec in specs.items():
        model = spec.dtype, spec.attention, spec.engine, spec.noise, spec.quantization
        with timed(source, spec, budgets[task], options, device, loaded.get(model), len(specs)) as each:
            found[task] = each
        loaded.setdefault(model, found[task].prepared)
    return found


def _chosen(spec: EvalSpec, items: int, noise_seeds: int) -> EvalSpec:
    return replace(spec, items=items, noise_seeds=noise_seeds)


def _said(choice: tuple[str, tuple[int, int]]) -> str:
    task, (items, noise_seeds) = choice
    return f"{task}: {items} items, {noise_seeds} noise seeds"


def _forecast(plan: BudgetPlan) -> float:
    return plan.forecast
