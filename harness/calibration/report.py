"""The simulations of ``harness doctor --calibrate``: what intervals, gates and early stopping promise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.progress import Silent, Watcher

SECONDS = {"fast": "about a minute", "thorough": "about 20 minutes"}


@dataclass(frozen=True)
class _Job:
    """One stage of a calibration: ``run(advance)`` calls ``advance(1)`` after each of its ``steps``."""

    name: str
    steps: int
    run: Callable[[Callable[[int], None]], Any]


def calibration_report(thorough: bool, watcher: Watcher | None = None) -> dict[str, Any]:
    """Simulate everything; ``watcher`` is told of cost and progress.

    Returns JSON types: ``effort``, ``seconds``, ``coverage`` (stages with cells), ``gate``, ``early_stopping``,
    ``errors`` (wrong verdicts at the margin), ``distributions`` (the gate on these) and ``holds``. Equal calls give
    equal numbers, ``seconds`` apart.
    """
    jobs = _jobs(thorough)
    effort = "thorough" if thorough else "fast"
    watcher = watcher or Silent()
    steps = sum(job.steps for jobs_of in jobs.values() for job in jobs_of)
    watcher.cost(f"calibration: {steps} settings, {SECONDS[effort]} on one core")
    begun = time.perf_counter()
    results = _run(jobs, watcher)
    coverage = [
        {"name": job.name, "cells": [cell.to_json() for cell in cells]}
        for job, cells in zip(jobs["coverage"], results["coverage"], strict=True)
    ]
    gate = [case.to_json() for case in results["gate"][0]]
    early = [case.to_json() for case in results["early"][0]]
    errors = [case.to_json() for case in results["errors"][0]]
    distributions = [case.to_json() for case in results["distributions"][0]]
    holds = all(cell["holds"] for stage in coverage for cell in stage["cells"])
    return {
        "effort": effort,
        "seconds": time.perf_counter() - begun,
        "coverage": coverage,
        "gate": gate,
        "early_stopping": early,
        "errors": errors,
        "distributions": distributions,
        "holds": holds and not any(case["problems"] for case in (*gate, *early, *errors, *distributions)),
    }


def _jobs(thorough: bool) -> Mapping[str, Sequence[_Job]]:
    from harness.calibration.distributions import distribution_cases, run_distributions
    from harness.calibration.early import early_cases, simulate_early
    from harness.calibration.errors import error_jobs, run_errors
    from harness.calibration.gates import gate_cases, run_cases
    from harness.calibration.intervals import FAST, THOROUGH, coverage_stages, run_stage

    effort = THOROUGH if thorough else FAST
    cases, early, errors = gate_cases(thorough), early_cases(effort), error_jobs(thorough)
    distributions = distribution_cases(thorough)

    def run_early(advance: Callable[[int], None]) -> list[Any]:
        found = []
        for case, repetitions in early:
            found.append(simulate_early(case, repetitions))
            advance(1)
        return found

    return {
        "coverage": [
            _Job(stage.name, len(stage.cells), partial(run_stage, stage)) for stage in coverage_stages(effort)
        ],
        "gate": [_Job("gate", len(cases), partial(run_cases, cases))],
        "early": [_Job("early stopping", len(early), run_early)],
        "errors": [_Job("wrong verdicts", len(errors), partial(run_errors, errors))],
        "distributions": [_Job("distributions", len(distributions), partial(run_distributions, distributions))],
    }


def _run(jobs: Mapping[str, Sequence[_Job]], watcher: Watcher) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for kind, of_kind in jobs.items():
        found[kind] = []
        for job in of_kind:
            watcher.stage(job.name, job.steps)
            found[kind].append(job.run(watcher.advance))
    return found
