"""From the values given to a stored run: evaluated once, shared by tests, workers and later runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.baselines.book import DEFAULT_FOLDER, load_named
from harness.baselines.file import Baseline
from harness.exceptions import HarnessError
from harness.gates import GatePolicy, GateResult, gate
from harness.gates.early import EarlyPlan
from harness.gates.early_runs import is_finished, run_to_judge
from harness.gates.pairing import seeds_of
from harness.gates.policy_file import policy_given
from harness.gates.quick import QuickCheck
from harness.library.for_gate import (
    CHANGES,
    asked_of,
    changed,
    check_part,
    default_run_folder,
    early_plan,
    order_seed_of,
    quick_check,
    refuse_changes,
    said_of,
)
from harness.pytest_plugin.settings import Given
from harness.runs.loaded import Run, complete_run, is_run, load_run
from harness.spec import EngineOptions, EvalSpec, default_levels, parse_levels
from harness.spec.reading import read_noise
from harness.spec.sampling import draws_given, is_sampled

SPEC_FIELDS = (
    *("task", "scorer", "items", "item_seed", "noise_seeds", "max_new_tokens", "template_date", "prefix_token"),
    *("temperature", "top_p"),
)
MADE_AS_IT_WAS = ("base", *CHANGES, *SPEC_FIELDS, "samples", "noise", "noise_levels")
QUICK = ("items", "noise_seeds", "samples")
"""What of a finished run a gate may name all the same: it declares which part of the baseline is judged."""
IGNORE_ALL = "# Made by the robustness harness: stored runs, to be made again at any time\n*\n"


def named_baseline(given: Mapping[str, Any]) -> Baseline | None:
    """Return the baseline that was named, None where none was."""
    if given["baseline"] is None:
        return None
    folder = Path(given["baselines_dir"])
    if folder != DEFAULT_FOLDER and not folder.is_dir():
        raise HarnessError(f"baselines-dir {folder}", "there is no such folder", "check the path")
    return load_named(folder, given["baseline"])


def spec_of(given: Mapping[str, Any], baseline: Baseline | None) -> EvalSpec:
    """Return the baseline's specification, or the default one, with what is given in place of its own."""
    base = EvalSpec("arith") if baseline is None or baseline.spec is None else EvalSpec.from_json(dict(baseline.spec))
    changes: dict[str, Any] = {name: given[name] for name in SPEC_FIELDS if given[name] is not None}
    draws = draws_given(given["samples"], given["noise_seeds"], changes.get("temperature", base.temperature))
    if draws is not None:
        changes["noise_seeds"] = draws
    noise = base.noise
    if given["noise"] is not None:
        noise, changes["levels"] = read_noise(given["noise"], given["noise_levels"])
        changes["noise"] = noise
        if given["noise_levels"] is None and changes["levels"] == default_levels(noise.error):
            changes["levels"] = base.levels
    elif given["noise_levels"] is not None:
        changes["levels"] = parse_levels(given["noise_levels"], noise.error)
    if noise.error.strength is None:
        changes["levels"] = default_levels(noise.error)
    return changed(replace(base, **changes), given)


def levels_of(given: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the levels that are evaluated, ascending. Raises :class:`HarnessError`."""
    baseline = named_baseline(given)
    if given["noise_levels"] is None and baseline is not None and baseline.spec is None:
        return tuple(sorted(baseline.arm.outcomes))
    return spec_of(given, baseline).levels


@dataclass(frozen=True)
class Evaluations:
    """The runs of one test's checkpoint. Everything raises :class:`HarnessError` for bad values and files."""

    config: pytest.Config
    given: Given

    @cached_property
    def baseline(self) -> Baseline | None:
        """The baseline, None where none was named."""
        return named_baseline(self.given)

    @cached_property
    def spec(self) -> EvalSpec:
        """What is evaluated."""
        return spec_of(self.given, self.baseline)

    def run(self, plan: EarlyPlan | None = None, held: Baseline | None = None) -> Run:
        """Return the stored run: the one named, one of an earlier or parallel test, or evaluated now.

        With ``plan`` it stops as soon as its gate against ``held`` is decided.
        """
        target: Path = self.given["checkpoint"]
        if is_run(target):
            declared = () if held is None else QUICK
            refuse_changes(target, self.given, [name for name in MADE_AS_IT_WAS if name not in declared])
            return complete_run(target) if held is None else run_to_judge(target, plan, held.arm)
        from harness.checkpoints.source import resolve

        source = resolve(target, base=self.given["base"], adapter=self.given["adapter"])
        folder = private_folder(self.config.invocation_params.dir / self.given["dir"])
        out = default_run_folder(source, self.spec, folder, plan)
        with FileLock(folder / f"{out.name}.lock"):
            finished = load_run(out) if is_run(out) else None
            if finished is not None and _is_whole(finished, plan, held):
                return finished
            return self._evaluate(lambda: self._evaluated(source, out, plan, held))

    def _evaluated(self, source: Any, out: Path, plan: EarlyPlan | None, held: Baseline | None) -> Run:
        from harness.evaluate.api import evaluate
        from harness.evaluate.early import EarlyStopping
        from harness.reports.progress import shown

        early = None if plan is None or held is None else EarlyStopping(plan, held.arm)
        given = self.given
        how = EngineOptions(given["batch_size"], given["workers"], given["timeout"], given["allow_mixed_code"])
        with shown() as watcher:
            return evaluate(source, self.spec, out, how, given["device"], early, watcher)

    def _evaluate(self, work: Callable[[], Run]) -> Run:
        """Progress is shown where a terminal can show it."""
        capture = self.config.pluginmanager.getplugin("capturemanager")
        if capture is None or hasattr(self.config, "workerinput"):
            return work()
        with capture.global_and_fixture_disabled():
            return work()

    def gate(self, policy: GatePolicy) -> tuple[Run, GateResult, QuickCheck | None]:
        """Return the run, its verdict against the baseline at the levels of the run, and the quick check that was
        declared: fewer items or noise seeds than the baseline has. Undeclared, fewer are INVALID."""
        if self.baseline is None:
            raise HarnessError("robustness.gate without a baseline", "no evidence, no verdict", _BASELINE)
        held = self.baseline
        if not is_run(self.given["checkpoint"]):
            levels = set(self.spec.levels)
            kept = {level: cells for level, cells in held.arm.outcomes.items() if level in levels}
            policy.check_judged(policy.levels or held.arm.outcomes)
            policy = policy.within(levels)
            held = replace(held, arm=replace(held.arm, outcomes=kept))
        plan, quick = early_plan(policy, held), self._quick(held)
        asked = asked_of(held, quick)
        run = self.run(plan, asked)
        outcomes = {level: cells for level, cells in asked.arm.outcomes.items() if level in run.asked.levels}
        arm = replace(asked.arm, outcomes=outcomes)
        check_part(run, held, quick)
        result = gate(run.arm, arm, policy, order_seed_of(held))
        return run, said_of(result, quick), quick

    def _quick(self, held: Baseline) -> QuickCheck | None:
        """What was declared: who asks for as many as there are, or more, asks for all."""
        items = {item for cells in held.arm.outcomes.values() for item in cells}
        seeds = max((len(seeds_of(cells)) for cells in held.arm.outcomes.values()), default=1)
        sampled = float(is_sampled(held.arm.key))
        draws = draws_given(self.given["samples"], self.given["noise_seeds"], sampled)
        fewer = {
            name: asked
            for name, asked, there in (("items", self.given["items"], len(items)), ("noise_seeds", draws, seeds))
            if asked is not None and asked < there
        }
        return quick_check(held, fewer.get("items"), fewer.get("noise_seeds"))


_BASELINE = "give --robustness-baseline=NAME"


def policy_of(given: Mapping[str, Any]) -> GatePolicy:
    """Return the rules: of the policy file, or of the options. Raises :class:`HarnessError`."""
    policy = policy_given(given, ("min_retention", "across", "early_stop"))
    policy.refuse_distributions("in pytest", "judge by harness gate, or drop it")
    return policy


def _is_whole(run: Run, plan: EarlyPlan | None, held: Baseline | None) -> bool:
    return run.complete if plan is None or held is None else is_finished(run, plan, held.arm)


def private_folder(folder: Path) -> Path:
    """Return ``folder``, made, with a ``.gitignore`` that keeps all of it out of git."""
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text(IGNORE_ALL, encoding="utf-8")
    return folder
