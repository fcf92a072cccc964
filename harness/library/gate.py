"""One call from a run or a checkpoint to a verdict against a baseline; behind ``harness gate``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.baselines.book import load_named
from harness.baselines.file import Baseline, dump
from harness.checkpoints.hub import locate, located
from harness.checkpoints.there import hub_name
from harness.exceptions import StoreError
from harness.gates import GateResult
from harness.gates import gate as judge
from harness.gates.early import EarlyPlan
from harness.gates.early_runs import run_to_judge
from harness.gates.joint import Sides, decided_alone, gate_both
from harness.gates.policy import GatePolicy
from harness.gates.quick import QuickCheck
from harness.gates.subscores import SubScores, gated_subscores
from harness.library.for_gate import (
    CHANGES,
    GateEvaluation,
    asked_of,
    baseline_spec,
    changed,
    check_part,
    default_run_folder,
    early_plan,
    order_seed_of,
    quick_check,
    refuse_changes,
    said_of,
)
from harness.library.foregone import announce, check_within_reach, refuse_other_key
from harness.library.gate_both import evaluated_half, reference_of, stored_half
from harness.library.within import evaluated_within, planned_check
from harness.progress import Watcher
from harness.runs.attempts import Attempt, count_attempt
from harness.runs.folder import refuse_shelf
from harness.runs.kept_verdicts import check_verdict, keep_verdict, verdict_file
from harness.runs.loaded import Run, is_run
from harness.runs.manifest import digest
from harness.spec import EvalSpec

if TYPE_CHECKING:
    from harness.checkpoints.source import Source


@dataclass(frozen=True)
class Gated:
    """A verdict with what it was reached from.

    ``attempts`` is what :func:`harness.runs.attempts.count_attempt` knows of the gatings of this run; ``repeated`` says
    that a verdict stored earlier is this one, byte for byte; ``unkept`` says why the verdict could not be stored (empty
    where it was).
    """

    run: Run
    baseline: Baseline
    result: GateResult
    attempts: Any
    repeated: bool
    unkept: str = ""

    @property
    def verdict(self) -> str:
        """PASS, FAIL, INCONCLUSIVE or INVALID."""
        return self.result.verdict

    @property
    def exit_code(self) -> int:
        """0, 1, 3 or 4, in the order of :attr:`verdict`."""
        return self.result.exit_code

    def to_json(self) -> dict[str, Any]:
        """Return JSON types: the result, the attempts, whether a stored verdict was this one, and the scores of groups
        where there are any."""
        found = self.result.to_json() | {"attempts": self.attempts, "repeated": self.repeated}
        return found | ({"subscores": self.subscores.to_json()} if self.subscores.scores else {})

    @cached_property
    def subscores(self) -> SubScores:
        """The scores of groups beside the baseline's, for people: no verdict rests on them."""
        return gated_subscores(self.run.arm, self.baseline.arm, self.result)


def gate(
    target: Path | str,
    baseline: Baseline | Path | str,
    policy: GatePolicy | None = None,
    evaluation: GateEvaluation | None = None,
    watcher: Watcher | None = None,
    baselines_dir: Path | str = "baselines",
) -> Gated:
    """Judge ``target``, a finished run or a checkpoint, against ``baseline`` (a file, or a name in ``baselines_dir``).

    A checkpoint is evaluated first, with the baseline's own specification changed as ``evaluation`` says; ``watcher``
    is told about cost and progress. With its ``items`` or ``noise_seeds`` that part of the baseline is judged, a
    declared quick check, of a run too, which must be of exactly that part; with its ``budget`` the part that can tell
    most within so many seconds, chosen before anything is scored. The attempt is counted and the verdict kept
    beside the run, which makes a verdict that changes with equal records an error. INVALID, FAIL and INCONCLUSIVE are
    results, not errors.

    With a ``kl_margin`` the distributions are judged too (:mod:`harness.gates.joint`), against the reference that
    ``evaluation`` names, or else the one beside the baseline. The distributions of a checkpoint come first; with early
    stopping it generates nothing where they decide, and the run is theirs. Those of a run lie beside it.

    Raises :class:`harness.exceptions.HarnessError` for bad input, and
    :class:`harness.exceptions.NotComparableError` where nothing can be judged at all.
    """
    target, policy, evaluation = Path(target), policy or GatePolicy(), (evaluation or GateEvaluation()).started()
    held = baseline if isinstance(baseline, Baseline) else load_named(Path(baselines_dir), str(baseline))
    policy.check_judged(policy.levels or held.arm.outcomes)
    reference = reference_of(policy, held, baseline, evaluation.divergences, Path(baselines_dir))
    plan, quick = early_plan(policy, held), quick_check(held, evaluation.items, evaluation.noise_seeds)
    asked = asked_of(held, quick)
    sides: Sides | None = None
    if is_run(target):
        refuse_changes(target, vars(evaluation), ("base", "out", "budget", *CHANGES))
        run = run_to_judge(target, plan, asked.arm)
        sides = None if reference is None else stored_half(target, reference)
    else:
        spec = changed(baseline_spec(held), vars(evaluation), quick)
        refuse_shelf(target)
        if hub_name(str(target)) is not None:
            target = located(target)
        refuse_other_key(spec, held, vars(evaluation), policy.across, target)
        if evaluation.budget is None:
            announce(asked, policy, quick is not None, reference)
        else:
            policy.refuse_distributions("with --budget", "leave one of them out: a budget plans answers alone")
            check_within_reach(held, policy)
        target, base = locate(target, evaluation.base)
        evaluation = replace(evaluation, base=base)
        if evaluation.budget is not None:
            run = evaluated_within(target, held, policy, evaluation, spec, watcher)
            quick = planned_check(held, run)
            asked = asked_of(held, quick)
        else:
            source, out = _where(target, plan, evaluation, spec)
            if reference is not None:
                half, sides = evaluated_half(target, reference, evaluation, out, watcher)
                found = decided_alone(asked.arm, sides, policy) if policy.early_stop else None
                if found is not None:
                    return stored(half, held, policy, said_of(found, quick), quick, _with(reference))
            run = _evaluated(source, asked, plan, evaluation, (spec, out), watcher)
    check_part(run, held, quick)
    if sides is None:
        result = judge(run.arm, asked.arm, policy, order_seed_of(held))
    else:
        result = gate_both((run.arm, asked.arm), sides, policy, order_seed_of(held))
    return stored(run, held, policy, said_of(result, quick), quick, _with(reference))


def _with(reference: Run | None) -> str:
    """What else a verdict was reached from, as text."""
    return "" if reference is None else f" distributions {reference.manifest.digest}"


def stored(
    run: Run, held: Baseline, policy: GatePolicy, result: GateResult, quick: QuickCheck | None = None, family: str = ""
) -> Gated:
    """Return ``result`` with the attempt counted and the verdict kept beside ``run``; ``family`` says what else was
    judged together with it.

    Raises :class:`harness.exceptions.NotComparableError` where another verdict is kept there.
    """
    kept = verdict_file(run.path, dump(held), _rules(policy, quick) + family)
    repeated = check_verdict(kept, result.to_json())
    attempts = count_attempt(run.path, attempt_of(held, policy, result, quick=quick))
    unkept = ""
    if not repeated:
        try:
            keep_verdict(kept, result.to_json())
        except StoreError as error:  # the verdict stands, also where its run lies on a read-only disk
            unkept = str(error)
    return Gated(run, held, result, attempts, repeated, unkept)


def attempt_of(
    baseline: Baseline, policy: GatePolicy, result: GateResult, session: str = "", quick: QuickCheck | None = None
) -> Attempt:
    """Return what is kept of a gating; ``session`` names the test session that judges level by level, ``quick`` the
    declared part of the baseline."""
    limits: tuple[Any, ...] = (policy.margin, policy.margins, policy.min_retention, policy.retentions)
    if policy.nats_margin is not None or policy.nats_margins:
        limits += (policy.nats_margin, policy.nats_margins)
    if policy.kl_margin is not None:
        limits += ("distributions", policy.kl_margin, policy.kl_margins)
    return Attempt(digest(dump(baseline)), repr(limits), _rules(policy, quick), result.verdict, session)


def _rules(policy: GatePolicy, quick: QuickCheck | None) -> str:
    """By what was judged, as text: equal texts, equal verdicts."""
    return repr(policy) if quick is None else f"{policy!r} {quick!r}"


def _where(target: Path, plan: EarlyPlan | None, evaluation: GateEvaluation, spec: EvalSpec) -> tuple[Source, Path]:
    """The checkpoint, and the folder of its run."""
    from harness.checkpoints.source import resolve

    source = resolve(target, base=evaluation.base, adapter=evaluation.adapter)
    return source, evaluation.out or default_run_folder(source, spec, plan=plan)


def _evaluated(
    source: Source,
    held: Baseline,
    plan: EarlyPlan | None,
    evaluation: GateEvaluation,
    asked: tuple[EvalSpec, Path],
    watcher: Watcher | None,
) -> Run:
    """The run of ``source`` as it is ``asked``: by a specification, into a folder."""
    from harness.evaluate.api import evaluate
    from harness.evaluate.early import EarlyStopping

    early = None if plan is None else EarlyStopping(plan, held.arm)
    return evaluate(source, *asked, evaluation.options, evaluation.device, early, watcher)
