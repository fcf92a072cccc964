"""Several tasks of one checkpoint judged together: one policy, one family over all their levels, one verdict.

PASS claims that nothing was lost on any task, so that every level of every task must pass (an intersection-union test);
a FAIL on any of them fails the whole, so that alarms are adjusted by Holm over the requirements of all tasks. A task
without a run that can be judged is INVALID, and so is the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.exceptions import HarnessError
from harness.gates.adjusting import adjusted_tasks
from harness.gates.judge import judged_alone, judged_levels
from harness.gates.perplexity import check_rules
from harness.gates.policy import FAILS, FIXED_SEQUENCE, GatePolicy
from harness.gates.result import GateResult
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, exit_code, worst
from harness.record import Arm


@dataclass(frozen=True)
class TasksResult:
    """The verdict over all tasks. ``results`` holds task -> verdict, ``missing`` task -> why it has no run to judge;
    ``family`` names what was held together, and how."""

    verdict: str
    family: str
    results: Mapping[str, GateResult]
    missing: Mapping[str, str] = field(default_factory=dict)
    inconclusive: str = ""

    @property
    def exit_code(self) -> int:
        """PASS 0, FAIL 1, INCONCLUSIVE 3 (1 where the policy says so), INVALID 4."""
        failing = self.verdict == INCONCLUSIVE and self.inconclusive == FAILS
        return exit_code(FAIL if failing else self.verdict)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the whole is what it is: tasks without a run, and the reasons of every task with the deciding verdict."""
        found = [f"{task} {INVALID}: {why}" for task, why in self.missing.items()]
        found += [
            f"{task} {result.verdict}: {'; '.join(result.reasons)}"
            for task, result in self.results.items()
            if result.verdict in (self.verdict, FAIL)
        ]
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return one object for strict JSON."""
        lacking = {task: lacking_json(why) for task, why in self.missing.items()}
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "family": self.family,
            "reasons": list(self.reasons),
            "tasks": {**{task: result.to_json() for task, result in self.results.items()}, **lacking},
        }


def lacking_json(why: str) -> dict[str, Any]:
    """Return the JSON object of a task that has no run to judge."""
    return {"verdict": INVALID, "exit_code": exit_code(INVALID), "reasons": [why], "levels": [], "notes": []}


def gate_tasks(
    arms: Mapping[str, tuple[Arm, Arm]],
    policy: GatePolicy,
    order_seeds: Mapping[str, int] | None = None,
    missing: Mapping[str, str] | None = None,
) -> TasksResult:
    """Judge ``arms`` (task -> candidate and baseline) under one ``policy``, all levels of all tasks as one family.

    ``order_seeds`` are those of :func:`harness.gates.judge.gate`; ``missing`` says of tasks that have no run to judge
    why. A rule for a level holds for every task that is judged there. Raises :class:`HarnessError` for early stopping,
    and for a rule for a level that no task is judged at.
    """
    check_together(policy)
    check_rules(policy, [baseline.key for _, baseline in arms.values()])
    seeds, missing = order_seeds or {}, missing or {}
    levels = {task: judged_levels(ours, theirs, policy) for task, (ours, theirs) in arms.items()}
    if levels:
        policy.check_judged({level for own in levels.values() for level in own})
    alone = {
        task: judged_alone(ours, theirs, policy.within(levels[task]), seeds.get(task, 0))
        for task, (ours, theirs) in arms.items()
    }
    judged = adjusted_tasks({task: each.levels for task, each in alone.items()}, policy)
    found = {task: each.result(judged[task]) for task, each in alone.items()}
    verdicts = [*(result.verdict for result in found.values()), *(INVALID for _ in missing)]
    verdict = worst(verdicts)
    requirements = sum(len(level.tests.measured) for each in alone.values() for level in each.levels if level.tests)
    family = family_text([*arms, *missing], sum(map(len, levels.values())), requirements, policy)
    note = f"one of {len(verdicts)} tasks that were judged together; the verdict over all of them is {verdict}"
    results = {task: replace(result, family=family, notes=(*result.notes, note)) for task, result in found.items()}
    return TasksResult(verdict, family, results, dict(missing), policy.inconclusive)


def check_together(policy: GatePolicy) -> None:
    """Raise :class:`HarnessError` where ``policy`` cannot hold several tasks together."""
    policy.refuse_distributions("with several tasks", "gate task by task, or judge them by harness divergence gate")
    if policy.early_stop:
        raise HarnessError(
            f"--early-stop {policy.early_stop:g} with several tasks",
            "each would stop by itself, and nothing holds the error rate over all of them",
            "drop it, or gate task by task",
        )


def family_text(tasks: list[str], levels: int, requirements: int, policy: GatePolicy) -> str:
    """Return what stands beside a verdict over several tasks: which hypotheses, how many, which correction."""
    own = "; the sequence is each task's own" if policy.family == FIXED_SEQUENCE else ""
    return (
        f"one family over {len(tasks)} tasks ({', '.join(tasks)}): {levels} levels, {requirements} requirements, each"
        f" a hypothesis; {policy.family_text}{own}"
    )
