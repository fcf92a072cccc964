"""Gates within a number of seconds: on which part of a baseline a checkpoint is evaluated, and why on that one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.baselines.file import Baseline, dump
from harness.gates.budget import BudgetPlan, Design
from harness.gates.budget_design import design_of
from harness.gates.policy import GatePolicy
from harness.gates.quick import QuickCheck
from harness.library.for_gate import (
    GateEvaluation,
    asked_of,
    baseline_spec,
    changed,
    default_run_folder,
    early_plan,
    quick_check,
)
from harness.library.foregone import check_within_reach, refuse_other_key
from harness.progress import Watcher
from harness.runs.loaded import Run
from harness.runs.manifest import digest
from harness.spec import EvalSpec

if TYPE_CHECKING:
    from harness.checkpoints.source import Source
    from harness.evaluate.early import EarlyStopping
    from harness.evaluate.within import Budget


@dataclass(frozen=True)
class BudgetSaid:
    """What a budget gives: the plan, what a manifest would keep of it, and what is said of it."""

    plan: BudgetPlan
    kept: Mapping[str, Any]
    lines: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {"budget": dict(self.kept), "said": list(self.lines)}


def evaluated_within(
    target: Path,
    held: Baseline,
    policy: GatePolicy,
    evaluation: GateEvaluation,
    spec: EvalSpec,
    watcher: Watcher | None,
) -> Run:
    """Return the run of the checkpoint ``target`` by ``spec`` on the part of ``held`` that a gate under ``policy`` can
    tell most with in the budget of ``evaluation``. Raises :class:`harness.exceptions.HarnessError`."""
    from harness.checkpoints.source import resolve
    from harness.evaluate.within import evaluate_within

    budget, design = budget_for(held, policy, evaluation)
    source = resolve(target, base=evaluation.base, adapter=evaluation.adapter)
    label = f"{budget.seconds!r} {digest(dump(held))} {json.dumps(asdict(design), sort_keys=True)}"
    out = evaluation.out or default_run_folder(source, spec, plan=early_plan(policy, held), budget=label)
    return evaluate_within(source, spec, out, budget, evaluation.options, evaluation.device, watcher)


def evaluated_tasks_within(
    source: Source,
    specs: Mapping[str, EvalSpec],
    held: Mapping[str, Baseline],
    policy: GatePolicy,
    evaluation: GateEvaluation,
    watcher: Watcher | None,
) -> dict[str, Run]:
    """Do as :func:`evaluated_within` for the baselines of several tasks (task -> its own) that share one budget."""
    from harness.evaluate.within_tasks import evaluate_tasks_within

    found = {task: budget_for(each, own_policy(each, policy), evaluation) for task, each in held.items()}
    budgets = {task: budget for task, (budget, _) in found.items()}
    label = " ".join(
        f"{evaluation.budget!r} {digest(dump(held[task]))} {json.dumps(asdict(design), sort_keys=True)}"
        for task, (_, design) in sorted(found.items())
    )
    out: Path | dict[str, Path] = evaluation.out or {
        task: default_run_folder(source, spec, budget=label) for task, spec in specs.items()
    }
    return evaluate_tasks_within(source, specs, out, budgets, evaluation.options, evaluation.device, watcher)


def own_policy(held: Baseline, policy: GatePolicy) -> GatePolicy:
    """Return the rules of ``policy`` for the levels of ``held``, one of several tasks."""
    return policy.within(policy.levels or held.arm.outcomes)


def budget_for(held: Baseline, policy: GatePolicy, evaluation: GateEvaluation) -> tuple[Budget, Design]:
    """Return the budget of ``evaluation`` for a gate under ``policy`` against ``held``, and what its plan follows
    from."""
    from harness.evaluate.early import EarlyStopping
    from harness.evaluate.within import Budget

    assert evaluation.budget is not None
    design, plan = design_of(held.arm, baseline_spec(held), policy), early_plan(policy, held)

    def early(chosen: EvalSpec) -> EarlyStopping | None:
        if plan is None:
            return None
        return EarlyStopping(plan, asked_of(held, quick_check(held, chosen.items, chosen.noise_seeds)).arm)

    def admit(items: int, noise_seeds: int) -> None:
        check_within_reach(asked_of(held, quick_check(held, items, noise_seeds)), policy)

    return Budget(evaluation.budget, lambda prepared: design, early, admit, evaluation.begun), design


def plan_budget(
    checkpoint: Path,
    baseline: Baseline | None,
    policy: GatePolicy,
    evaluation: GateEvaluation,
    spec: EvalSpec | None = None,
) -> BudgetSaid:
    """Return what a gate of ``checkpoint`` under ``policy`` against ``baseline`` would choose within the budget of
    ``evaluation``, or an evaluation by ``spec`` where there is no baseline; batches are timed, nothing is evaluated.

    Raises :class:`harness.exceptions.HarnessError` as the gate would.
    """
    policy.refuse_distributions("with --budget", "leave one of them out: a budget plans answers alone")
    evaluation = evaluation.started()
    if baseline is not None:
        spec = changed(baseline_spec(baseline), vars(evaluation))
        refuse_other_key(spec, baseline, vars(evaluation), policy.across, checkpoint)
        check_within_reach(baseline, policy)
    from harness.checkpoints.source import resolve
    from harness.evaluate.within import Budget, assumed, plan_within

    assert spec is not None and evaluation.budget is not None
    if baseline is None:
        budget = Budget(evaluation.budget, assumed(policy), begun=evaluation.begun)
    else:
        budget, _ = budget_for(baseline, policy, evaluation)
    source = resolve(checkpoint, base=evaluation.base, adapter=evaluation.adapter)
    return BudgetSaid(*plan_within(source, spec, budget, evaluation.options, evaluation.device))


def planned_check(held: Baseline, run: Run) -> QuickCheck | None:
    """Return the part of ``held`` that ``run`` was planned for, ``None`` where that is all of it."""
    return quick_check(held, len(run.asked.items), run.asked.noise_seeds)
