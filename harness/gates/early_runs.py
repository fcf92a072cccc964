"""Runs that were evaluated to stop early: evidence for a gate by the very same rule, partial for any other use."""

from __future__ import annotations

from pathlib import Path

from harness.exceptions import NotComparableError
from harness.gates.early import EarlyPlan, Outcomes
from harness.record import Arm
from harness.runs.loaded import Run, check_complete, load_run


def run_to_judge(path: Path, plan: EarlyPlan | None, baseline: Arm) -> Run:
    """Return the run at ``path``, finished, for a gate against ``baseline`` by ``plan`` (None: without early stopping).

    A run that was not meant to stop early has all its records, and any rule may judge it. One that was needs its own
    rule: by another its error rate is not kept. Raises :class:`NotComparableError` otherwise, and for unfinished runs.
    """
    run = load_run(path)
    rule = run.early_rule
    if rule is None:
        check_complete(run)
        return run
    wanted = None if plan is None else plan.to_json()
    if wanted != rule:
        other = f"this gate has none: give --early-stop {rule['share']:g}"
        if wanted is not None:
            differing = [
                f"{name} ({rule.get(name)} there, {wanted[name]} now)"
                for name in wanted
                if rule.get(name) != wanted[name]
            ]
            other = f"this gate differs in {', '.join(differing)}"
        raise NotComparableError(
            f"run {path} was evaluated to stop early by a rule of its own",
            other,
            "judge it by its own rule, or evaluate again into another --out",
        )
    if plan is not None and not is_finished(run, plan, baseline):
        raise NotComparableError(
            f"run {path} holds {_evaluated(run)} of {len(run.asked.items)} items and is not decided",
            "an unfinished run is no evidence",
            "resume it: give harness gate the checkpoint and this --out",
        )
    return run


def is_finished(run: Run, plan: EarlyPlan, baseline: Arm) -> bool:
    """Return whether an evaluation by ``plan`` has nothing left to do in ``run``: it looks after each block, as that
    does."""
    asked = run.asked
    if asked.positive_control and run.arm.certificate.control is None:
        return False
    if not run.arm.certificate.replayed:
        return False
    seen: list[str] = []
    for block in plan.blocks(asked.items):
        if not all(_measured(run.arm.outcomes, level, seeds, block) for level, seeds in _draws(run)):
            return False
        seen += block
        if plan.look(run.arm.outcomes, baseline.outcomes, seen, len(asked.items)).decided:
            return True
    return True


def _draws(run: Run) -> list[tuple[float, int]]:
    """(level, noise seeds) of everything asked for."""
    return [(level, run.asked.seeds_at(level)) for level in run.asked.levels]


def _measured(outcomes: Outcomes, level: float, seeds: int, items: tuple[str, ...]) -> bool:
    cells = outcomes.get(level, {})
    return all(len(cells.get(item, {})) == seeds for item in items)


def _evaluated(run: Run) -> int:
    return len({result.item for result in run.results})
