"""An evaluation within a number of seconds: timed first, planned, then run as any other of so many items and seeds.

What was chosen is the run's identity, and the manifest keeps why: whoever resumes it takes that choice, and plans
nothing anew.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.checkpoints.source import AnyCheckpoint, here
from harness.engines.protocol import Engine, EngineContext
from harness.evaluate.api import evaluate, run_prepared_into
from harness.evaluate.calibrating import Clock, calibrate
from harness.evaluate.early import EarlyStopping
from harness.evaluate.opening import engine_of
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.tasks.base import clusters_of
from harness.exceptions import HarnessError, StoreError
from harness.gates.budget import BudgetPlan, Design, choose, enough_seconds
from harness.gates.budget_design import assumed_design
from harness.gates.budget_words import plan_line, warning
from harness.gates.costs import Costs
from harness.gates.perplexity import refuse_continuous
from harness.gates.policy import GatePolicy
from harness.noise import environment
from harness.progress import Silent, Watcher
from harness.runs.folder import MANIFEST, read_manifest
from harness.runs.loaded import Run
from harness.runs.manifest import EvaluationManifest
from harness.spec import EngineOptions, EvalSpec

log = logging.getLogger(__name__)

CALIBRATION = 0.08
"""Share of the budget that timing may take (fraction), where small batches do not need more."""


def _never(spec: EvalSpec) -> EarlyStopping | None:
    return None


def assumed(policy: GatePolicy) -> Callable[[Prepared], Design]:
    """Return what says of a loaded evaluation from what a plan for a gate under ``policy`` follows, where there is no
    baseline."""

    def design(prepared: Prepared) -> Design:
        refuse_continuous(prepared.key, f"--budget with --task {prepared.task.name}")
        clusters = clusters_of(prepared.items, prepared.prompts)
        return assumed_design(prepared.spec, [item.key for item in prepared.items], clusters, policy)

    return design


def _anything(items: int, noise_seeds: int) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class Budget:
    """``seconds`` of wall time from ``begun`` on (a reading of ``clock``; None: from the call on).

    ``design`` says of a loaded evaluation what a plan for it follows from, ``early`` by which rule the planned one may
    stop early; ``admit`` raises where so many items and noise seeds may not be judged. ``clock`` counts seconds.

    Raises :class:`HarnessError` unless the seconds are finite and above 0.
    """

    seconds: float
    design: Callable[[Prepared], Design]
    early: Callable[[EvalSpec], EarlyStopping | None] = _never
    admit: Callable[[int, int], None] = _anything
    begun: float | None = None
    clock: Clock = time.monotonic

    def start(self) -> float:
        """Return when the seconds began: now, where nobody has said it."""
        return self.clock() if self.begun is None else self.begun

    def gone(self) -> float:
        """Return the seconds that have gone already."""
        return self.clock() - self.start()

    def __post_init__(self) -> None:
        """Check the seconds."""
        check_seconds(self.seconds)


def check_seconds(budget: float) -> None:
    """Raise :class:`HarnessError` unless ``budget`` is a number of seconds."""
    if not 0 < budget < math.inf:
        raise HarnessError(f"--budget {budget:g}", "it is in seconds, above 0", "give for example 120")


def check_one_engine(options: EngineOptions) -> None:
    """Raise :class:`HarnessError` for several workers: one engine is timed."""
    if options.workers > 1:
        raise HarnessError(
            f"--budget with --workers {options.workers}",
            "one engine is timed, and how much several hinder each other is not known",
            "leave --workers out, or give --items and --noise-seeds",
        )


def evaluate_within(
    checkpoint: AnyCheckpoint | str,
    spec: EvalSpec,
    out: Path | str,
    budget: Budget,
    options: EngineOptions | None = None,
    device: str | None = None,
    watcher: Watcher | None = None,
) -> Run:
    """Evaluate ``checkpoint`` on as many items and noise seeds of ``spec`` as its gate can tell most with in the
    seconds of ``budget``, into the run folder ``out``, and return the stored run.

    The items of ``spec`` (None: all) are those that there are. A short calibration times batches of this checkpoint on
    this machine; scores are not looked at, so that the choice says nothing about them. A folder that holds such a run
    is resumed with its own choice.

    Raises :class:`HarnessError` where no plan fits, with the least budget that would do; the rest is as in
    :func:`harness.evaluate.api.evaluate`.
    """
    budget = replace(budget, begun=budget.start())
    options, watcher, out = options or EngineOptions(), watcher or Silent(), Path(out)
    check_one_engine(options)
    kept = stored_choice(out, budget.seconds)
    if kept is not None:
        spec = replace(spec, items=kept[0], noise_seeds=kept[1])
        log.info("%s: planned before for a budget of %g s: %d items, %d noise seeds", out, budget.seconds, *kept)
        return evaluate(checkpoint, spec, out, options, device, budget.early(spec), watcher)
    with timed(checkpoint, spec, budget, options, device) as found:
        design, costs = found.design, found.costs
        plan = choose(design, costs, budget.seconds)
        budget.admit(plan.items, plan.noise_seeds)
        say(watcher, plan, design, costs, budget.seconds)
        chosen = replace(spec, items=plan.items, noise_seeds=plan.noise_seeds)
        loaded = found.prepared.checkpoint
        ready = prepare(loaded.source, chosen, device, loaded=loaded)
        ready = replace(ready, budget=record(plan, design, costs, budget.seconds))
        run = run_prepared_into(ready, out, options, budget.early(chosen), watcher, found.engine)
    log.info("budget %g s: taken %.0f s, forecast %.0f s", budget.seconds, budget.gone(), plan.forecast)
    return run


def plan_within(
    checkpoint: AnyCheckpoint | str,
    spec: EvalSpec,
    budget: Budget,
    options: EngineOptions | None = None,
    device: str | None = None,
) -> tuple[BudgetPlan, Mapping[str, Any], tuple[str, ...]]:
    """Return what :func:`evaluate_within` would choose, what it would keep of that, and what it would say; nothing is
    evaluated or written."""
    options = options or EngineOptions()
    check_one_engine(options)
    with timed(checkpoint, spec, budget, options, device) as found:
        design, costs = found.design, found.costs
    plan = choose(design, costs, budget.seconds)
    budget.admit(plan.items, plan.noise_seeds)
    return plan, record(plan, design, costs, budget.seconds), words(plan, design, costs, budget.seconds)


@dataclass(frozen=True)
class Timed:
    """An evaluation with all items there are, its ``engine``, started, what a plan follows from, and what it costs,
    with the seconds that are gone; ``again`` of them are for preparing it once more, of the chosen items."""

    prepared: Prepared
    engine: EngineContext
    design: Design
    costs: Costs
    again: float


@contextlib.contextmanager
def timed(
    checkpoint: AnyCheckpoint | str,
    spec: EvalSpec,
    budget: Budget,
    options: EngineOptions,
    device: str | None,
    loaded: Prepared | None = None,
    tasks: int = 1,
) -> Iterator[Timed]:
    """Yield what an evaluation by ``spec`` costs; its engine ends with the block, where nobody has ended it before.

    ``loaded`` is an evaluation of the same model, which is not loaded again. The timing is one of so many ``tasks``.
    """
    budget = replace(budget, begun=budget.start())
    called = budget.gone()
    environment.refuse("an evaluation")
    named = here(Path(checkpoint) if isinstance(checkpoint, str) else checkpoint)
    prepared = prepare(named, spec, device, loaded=None if loaded is None else loaded.checkpoint)
    design, there = budget.design(prepared), budget.gone()
    with Started(engine_of(prepared, options, device)) as engine:
        costs = calibrate(prepared, engine, options.batch_size, CALIBRATION * budget.seconds / tasks, budget.clock)
        # prepared once more without loading: at most what it took, less what a load takes
        again = max(0.0, there - called - (costs.replay[0] if loaded is None else 0.0))
        yield Timed(prepared, engine, design, replace(costs, spent=budget.gone() + again), again)


class Started:
    """An engine that runs already, as a context to enter once more: its end, or that of :class:`Started`, ends it."""

    def __init__(self, engine: EngineContext) -> None:
        self._stack = contextlib.ExitStack()
        self._context = engine
        self._engine: Engine | None = None

    def __enter__(self) -> Started:
        """Start the engine, the first time."""
        if self._engine is None:
            self._engine = self._stack.enter_context(self._context)
        return self

    def __exit__(self, *raised: Any) -> None:
        """End it, once."""
        self._stack.close()

    def stream(self, batches: Any) -> Any:
        """Do as :meth:`harness.engines.protocol.Engine.stream`."""
        assert self._engine is not None
        return self._engine.stream(batches)


def stored_choice(out: Path, seconds: float) -> tuple[int, int] | None:
    """Return (items, noise seeds) of the run in ``out`` that was planned for ``seconds``, ``None`` where there is no
    run.

    Raises :class:`StoreError` where it was planned for another budget, or not for any.
    """
    if not (out / MANIFEST).is_file():
        return None
    manifest = read_manifest(out)
    kept = manifest.budget if isinstance(manifest, EvaluationManifest) else None
    if kept is None or kept.get("seconds") != seconds:
        rule = "its items were not planned for a budget" if kept is None else f"it was planned for {kept['seconds']:g}"
        way_out = "leave --budget out" if kept is None else f"give --budget {kept['seconds']:g}"
        raise StoreError(f"run {out} with --budget {seconds:g}", rule, f"{way_out}, or use another --out")
    assert isinstance(manifest, EvaluationManifest)
    return len(manifest.identity.items), manifest.identity.noise_seeds


def record(plan: BudgetPlan, design: Design, costs: Costs, seconds: float) -> dict[str, Any]:
    """Return what the manifest keeps of a choice: for how many ``seconds``, what, by which costs, and from what."""
    return {"seconds": seconds, "plan": plan.to_json(), "costs": costs.to_json(), "known": design.said}


def words(plan: BudgetPlan, design: Design, costs: Costs, seconds: float) -> tuple[str, ...]:
    """Return what is said of a plan before it runs: what it costs and can tell, and a warning where that is little."""
    worry = warning(plan, None if plan.odds.passing >= 0.5 else enough_seconds(design, costs))
    return (plan_line(plan, costs, seconds, design.said), *([] if worry is None else [worry]))


def say(watcher: Watcher, plan: BudgetPlan, design: Design, costs: Costs, seconds: float) -> None:
    """Tell ``watcher`` of ``plan``."""
    for line in words(plan, design, costs, seconds):
        watcher.cost(line)
