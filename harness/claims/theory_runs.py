"""Where the theory's runs come from: stored evaluations, or the published values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.claims.model import Place, Registry
from harness.claims.theory import ARMS, CLEAN, NOISY, VERY_NOISY, TheoryRun
from harness.exceptions import HarnessError, NotComparableError
from harness.gates import key_differences
from harness.runs.loaded import Run, complete_run
from harness.runs.named import parse_arms
from harness.text import nearest

LEVELS = (CLEAN, NOISY, VERY_NOISY)


def parse_theory_arms(texts: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Return arm of the theory -> its run folders, from texts such as ``E8a=RUN,RUN``. Raises :class:`HarnessError`."""
    found = parse_arms(texts, "--arm E8c=runs/c0,runs/c1")
    for name in found:
        if name not in ARMS:
            raise HarnessError(f"--arm {name}", f"the theory has {', '.join(ARMS)}", nearest(name, ARMS))
    every = [path.resolve() for paths in found.values() for path in paths]
    twice = next((path for index, path in enumerate(every) if path in every[:index]), None)
    if twice is not None:
        raise HarnessError(f"run {twice.name}", "it is in the arms twice", "give every run once")
    return found


def stored_arms(paths: Mapping[str, Sequence[Path]]) -> dict[str, tuple[TheoryRun, ...]]:
    """Return the runs of every arm, checked: complete, certified at every level, one measurement key and set of items.

    Runs must be of different weights: a copy of a run is not a replicate. Raises :class:`NotComparableError` (exit code
    4) for sound runs that may not be compared, and as :func:`harness.runs.loaded.complete_run` does.
    """
    loaded = {name: [complete_run(path) for path in group] for name, group in paths.items()}
    everyone = [run for group in loaded.values() for run in group]
    seen: dict[str, Path] = {}
    for run in everyone:
        first = everyone[0]
        differing = key_differences(first.arm.key, run.arm.key)
        if differing:
            raise NotComparableError(
                f"runs {first.path} and {run.path} differ in {', '.join(differing)}",
                "arms are compared under one measurement key",
                "evaluate all of them alike",
            )
        if set(run.arm.outcomes.get(CLEAN, ())) != set(first.arm.outcomes.get(CLEAN, ())):
            raise NotComparableError(
                f"runs {first.path} and {run.path}", "they hold different items", "evaluate all of them on one set"
            )
        weights = run.arm.origin.weights
        if weights and weights in seen:
            raise NotComparableError(
                f"runs {seen[weights]} and {run.path}",
                "they are evaluations of the same weights, not replicates",
                "train again with another seed",
            )
        seen[weights] = run.path
    return {name: tuple(_run(run) for run in group) for name, group in loaded.items()}


def _run(run: Run) -> TheoryRun:
    found = {}
    for level in LEVELS:
        rows = run.arm.outcomes.get(level)
        if not rows:
            if level == VERY_NOISY:
                continue
            raise NotComparableError(
                f"run {run.path} has no level {level:g}", "the plan needs 0 and 0.05", "evaluate with --noise-levels"
            )
        problems = run.arm.certificate.problems_at(level)
        if problems:
            raise NotComparableError(f"run {run.path}", problems[0], "no evidence, no verdict")
        means = [sum(outcome.right for outcome in row.values()) / len(row) for row in rows.values()]
        found[level] = sum(means) / len(means)
    return TheoryRun(str(run.path), found)


def published_arms(registry: Registry) -> dict[str, tuple[TheoryRun, ...]]:
    """Return what is published of the arms: at most one run each, with the first value of each level."""
    found: dict[str, tuple[TheoryRun, ...]] = {}
    for arm in registry.theory:
        if arm.experiment is None or arm.step is None:
            continue
        levels = {}
        for level in LEVELS:
            values = registry.values_at(Place(arm.experiment, arm.step, level, arm.engine))
            if values:
                levels[level] = values[0].value / 100
        if levels:
            found[arm.name] = (TheoryRun(arm.experiment, levels),)
    return found
