"""What ``harness doctor`` looks at: packages, kernels, devices; and the simulations of ``--calibrate``."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

WORKS, MISSING, BROKEN = "works", "missing", "broken"
NEEDED = ("numpy", "scipy", "statsmodels", "torch", "transformers", "datasets", "safetensors", "click", "rich")
OPTIONAL = {
    "vllm": "the vllm engine",
    "verl": "harness train",
    "peft": "LoRA adapters",
    "triton": "the noise kernel on a GPU",
}
LEAST_PYTHON = (3, 11)
SECONDS_BETWEEN_LINES = 10
SECONDS = {"fast": "about a minute", "thorough": "about 20 minutes"}


@dataclass(frozen=True)
class Finding:
    """One line of the table: ``state`` works, missing or broken; ``needed`` parts decide the exit code."""

    part: str
    state: str
    detail: str
    needed: bool = False

    @property
    def sound(self) -> bool:
        """False where something that is needed does not work."""
        return self.state == WORKS or not self.needed


def examine() -> tuple[Finding, ...]:
    """Every finding about this environment; imports torch and transformers, and may compile the kernels once."""
    found = [_python(), *(_package(name) for name in NEEDED)]
    found += [_optional(name, use) for name, use in OPTIONAL.items()]
    found.append(_compiler())
    for part, check in (
        ("noise kernel", _noise_kernel),
        ("quantizer kernel", _quantizer_kernel),
        ("accelerator", _accelerator),
        ("statistics", _statistics),
    ):
        found.append(_guarded(part, check))
    return tuple(found)


def _python() -> Finding:
    state = WORKS if sys.version_info >= LEAST_PYTHON else BROKEN
    return Finding("python", state, platform.python_version(), needed=True)


def _package(name: str) -> Finding:
    try:
        importlib.import_module(name)
        return Finding(name, WORKS, metadata.version(name), needed=True)
    except ModuleNotFoundError as error:
        return Finding(name, MISSING, f"{error}; install this package again", needed=True)
    except Exception as error:  # a broken installation raises anything
        return Finding(name, BROKEN, _first_line(error), needed=True)


def _optional(name: str, use: str) -> Finding:
    if util.find_spec(name) is None:
        return Finding(name, MISSING, f"only needed for {use}")
    try:
        return Finding(name, WORKS, f"{metadata.version(name)}, for {use}")
    except metadata.PackageNotFoundError:
        return Finding(name, BROKEN, "it can be imported but has no version")


def _compiler() -> Finding:
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        return Finding("C compiler", MISSING, "noise and quantizer run eagerly, several times more slowly")
    return Finding("C compiler", WORKS, found)


def _guarded(part: str, check: Callable[[], Finding]) -> Finding:
    """``check()``; what it raises becomes a finding, because a doctor must not die of the illness."""
    level = logging.getLogger("harness").level
    logging.getLogger("harness").setLevel(logging.ERROR)  # the table says what the warnings would
    try:
        return check()
    except Exception as error:
        return Finding(part, BROKEN, _first_line(error), needed=part == "statistics")
    finally:
        logging.getLogger("harness").setLevel(level)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:160]


def _noise_kernel() -> Finding:
    import torch

    from harness.numerics import native

    ready = [str(dtype).removeprefix("torch.") for dtype in (torch.float32, torch.bfloat16) if native.available(dtype)]
    if not ready:
        return Finding("noise kernel", MISSING, "eager code is used, several times more slowly")
    return Finding("noise kernel", WORKS, f"C, same bits as the eager code, for {', '.join(ready)}")


def _quantizer_kernel() -> Finding:
    import torch

    from harness.numerics import native_quantizer
    from harness.spec.formats import Recipe

    if not native_quantizer.fits(torch.zeros(2, 64), Recipe.of("mxfp4"), None):
        return Finding("quantizer kernel", MISSING, "eager code is used, several times more slowly")
    return Finding("quantizer kernel", WORKS, "C, same bits as the eager code")


def _accelerator() -> Finding:
    import torch

    from harness.evaluate.device import best_device, device_name

    name = best_device()
    if name == "cpu":
        return Finding("accelerator", MISSING, f"runs use the CPU with {torch.get_num_threads()} threads")
    detail = device_name(torch.device(name))
    if name.startswith("cuda"):
        from harness.numerics import triton_kernel

        works = triton_kernel.available(torch.device(name))
        detail += ", Triton kernel " + ("works" if works else "does not work: noise is slower")
    return Finding("accelerator", WORKS, detail)


def _statistics() -> Finding:
    """Ten equal items must not PASS a margin of 1.5 points, and 178 must."""
    from harness.stats import tango

    few, enough = tango(0, 0, 10).low > -0.015, tango(0, 0, 178).low > -0.015
    if few or not enough:
        return Finding("statistics", BROKEN, "ten equal items must not PASS 1.5 points, and 178 must", needed=True)
    return Finding("statistics", WORKS, "the score interval decides as it should; --calibrate shows more", needed=True)


@dataclass(frozen=True)
class _Job:
    """One stage of a calibration: ``run(advance)`` calls ``advance(1)`` after each of its ``steps``."""

    name: str
    steps: int
    run: Callable[[Callable[[int], None]], Any]


def calibration_report(thorough: bool, console: Console | None = None) -> dict[str, Any]:
    """Simulate everything, with the cost said beforehand and progress on ``console`` (default: standard error).

    Returns JSON types: ``effort``, ``seconds``, ``coverage`` (stages with cells), ``gate``, ``early_stopping``,
    and ``holds``. Equal calls give equal numbers, ``seconds`` apart.
    """
    jobs = _jobs(thorough)
    effort = "thorough" if thorough else "fast"
    console = console or Console(stderr=True)
    steps = sum(job.steps for jobs_of in jobs.values() for job in jobs_of)
    console.print(f"calibration: {steps} settings, {SECONDS[effort]} on one core", highlight=False, soft_wrap=True)
    begun = time.perf_counter()
    results = _run(jobs, console)
    coverage = [
        {"name": job.name, "cells": [cell.to_json() for cell in cells]}
        for job, cells in zip(jobs["coverage"], results["coverage"], strict=True)
    ]
    gate = [case.to_json() for case in results["gate"][0]]
    early = [case.to_json() for case in results["early"][0]]
    holds = all(cell["holds"] for stage in coverage for cell in stage["cells"])
    return {
        "effort": effort,
        "seconds": time.perf_counter() - begun,
        "coverage": coverage,
        "gate": gate,
        "early_stopping": early,
        "holds": holds and not any(case["problems"] for case in (*gate, *early)),
    }


def _jobs(thorough: bool) -> Mapping[str, Sequence[_Job]]:
    from harness.gates.calibration import gate_cases, run_cases
    from harness.stats.calibration import FAST, THOROUGH, coverage_stages, run_stage
    from harness.stats.coverage_sequential import early_cases, simulate_early

    effort = THOROUGH if thorough else FAST
    cases, early = gate_cases(thorough), early_cases(effort)

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
    }


def _run(jobs: Mapping[str, Sequence[_Job]], console: Console) -> dict[str, list[Any]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    found: dict[str, list[Any]] = {}
    last = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for kind, of_kind in jobs.items():
            found[kind] = []
            for job in of_kind:
                bar, done = progress.add_task(job.name, total=job.steps), 0

                def advance(count: int, bar: Any = bar, job: _Job = job) -> None:
                    nonlocal done, last
                    done += count
                    progress.advance(bar, count)
                    if not console.is_terminal and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                        last = time.monotonic()
                        console.print(f"{job.name}: {done} of {job.steps}", highlight=False)

                found[kind].append(job.run(advance))
    return found
