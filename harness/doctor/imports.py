"""Imports of heavy packages, tried in processes of their own: a broken one must not take the doctor along."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from harness.doctor.findings import BROKEN, EVERYTHING, VERL, VLLM, WORKS, Finding
from harness.doctor.stack import QUEUE, REINSTALL, Stack, companions_here

LIMIT = 300.0
"""Seconds for one import; vLLM's takes 10 to 20, on busy cores several times as long."""

MODELS = "transformers models"
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


@dataclass(frozen=True)
class Trial:
    """A statement that must run, and the finding about it: ``finding.detail`` is what is said when it does."""

    statement: str
    finding: Finding


def trials(stack: Stack) -> tuple[Trial, ...]:
    """Return what is to be imported in this environment; parts that are missing are not tried."""
    if "transformers" not in stack.versions:
        return ()
    cure = f"{REINSTALL} transformers=={stack.versions['transformers']}"
    models = Finding(MODELS, WORKS, "Qwen2ForCausalLM can be imported", needed=True, concerns=EVERYTHING, cure=cure)
    found = [Trial("from transformers import Qwen2ForCausalLM", models)]
    if stack.vllm is not None:
        cure = f"{REINSTALL} {stack.vllm}=={stack.versions[stack.vllm]}"
        engine = Finding("import vllm", WORKS, "vllm.LLM can be imported", concerns=(VLLM, VERL), cure=cure)
        found.append(Trial("from vllm import LLM", engine))
    if VERL in stack.versions:
        modules = [name for name, here in (("ray", "ray"), ("transfer_queue", QUEUE)) if here in stack.versions]
        names = ", ".join([VERL, *modules])
        cure = f"{REINSTALL} {VERL}=={stack.versions[VERL]}"
        found.append(Trial(f"import {names}", Finding("import verl", WORKS, names, concerns=(VERL,), cure=cure)))
    if not companions_here(stack):
        return tuple(found)
    # their own finding has the cure
    return tuple(replace(trial, finding=replace(trial.finding, cure="")) for trial in found)


def try_imports(
    wanted: Sequence[Trial], say: Callable[[str], None], limit: float = LIMIT, at_once: int = 2
) -> tuple[Finding, ...]:
    """Run every trial, ``at_once`` of them at a time, each for at most ``limit`` seconds; ``say`` gets a line."""
    if not wanted:
        return ()
    names = ", ".join(trial.finding.part.removeprefix("import ") for trial in wanted)
    say(f"importing {names} in processes of their own: 10 to 30 s")
    with ThreadPoolExecutor(at_once) as pool:
        return tuple(pool.map(lambda trial: _attempt(trial, limit), wanted))


def _attempt(trial: Trial, limit: float) -> Finding:
    why = failure(trial.statement, limit)
    if not why:
        return replace(trial.finding, cure="")
    return replace(trial.finding, state=BROKEN, detail=why)


def failure(statement: str, limit: float) -> str:
    """Return why a fresh interpreter cannot run ``statement``; "" where it can."""
    arguments = [sys.executable, "-P", "-c", statement]  # -P: a folder named vllm here is not the package
    environment = {**QUIET, **os.environ}
    try:
        done = subprocess.run(
            arguments, env=environment, timeout=limit, capture_output=True, text=True, errors="replace", check=False
        )
    except subprocess.TimeoutExpired:
        return f"it was not imported within {limit:g} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = lines[-1][:160] if lines else f"the interpreter ended with {done.returncode}"
    return reason if done.returncode > 0 else f"killed by signal {-done.returncode}: {reason}"
