"""Robustness evaluation of LLM checkpoints under proven numerical noise. No evidence, no verdict.

What a script needs is listed in ``__all__`` and loaded when first asked for: importing ``harness`` loads no torch.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.baselines.book import accept as accept_baseline
    from harness.checkpoints.source import CheckpointRef
    from harness.diagnostics.scan_run import scan
    from harness.diagnostics.scan_spec import ScanSpec
    from harness.evaluate.api import evaluate, evaluate_tasks
    from harness.evaluate.regenerate import replay
    from harness.exceptions import HarnessError
    from harness.gates.policy import GatePolicy
    from harness.library.compare import compare
    from harness.library.for_gate import GateEvaluation
    from harness.library.gate import gate
    from harness.library.gate_tasks import gate_tasks
    from harness.library.plan import PlanOptions, plan, power
    from harness.noise.inject import noisy
    from harness.numerics.quantizer import fake_quantize
    from harness.runs.loaded import load_run
    from harness.spec import EngineOptions, EvalSpec, NoiseSpec, parse_noise

_HOMES = {
    "CheckpointRef": ("harness.checkpoints.source", "CheckpointRef"),
    "EngineOptions": ("harness.spec", "EngineOptions"),
    "EvalSpec": ("harness.spec", "EvalSpec"),
    "GateEvaluation": ("harness.library.for_gate", "GateEvaluation"),
    "GatePolicy": ("harness.gates.policy", "GatePolicy"),
    "HarnessError": ("harness.exceptions", "HarnessError"),
    "NoiseSpec": ("harness.spec", "NoiseSpec"),
    "PlanOptions": ("harness.library.plan", "PlanOptions"),
    "ScanSpec": ("harness.diagnostics.scan_spec", "ScanSpec"),
    "accept_baseline": ("harness.baselines.book", "accept"),
    "compare": ("harness.library.compare", "compare"),
    "evaluate_tasks": ("harness.evaluate.api", "evaluate_tasks"),
    "fake_quantize": ("harness.numerics.quantizer", "fake_quantize"),
    "gate": ("harness.library.gate", "gate"),
    "gate_tasks": ("harness.library.gate_tasks", "gate_tasks"),
    "load_run": ("harness.runs.loaded", "load_run"),
    "noisy": ("harness.noise.inject", "noisy"),
    "parse_noise": ("harness.spec", "parse_noise"),
    "plan": ("harness.library.plan", "plan"),
    "power": ("harness.library.plan", "power"),
    "replay": ("harness.evaluate.regenerate", "replay"),
    "scan": ("harness.diagnostics.scan_run", "scan"),
}
"""Public name -> module and name there. ``evaluate`` is the package of that name, which can be called."""

__all__ = [
    "CheckpointRef",
    "EngineOptions",
    "EvalSpec",
    "GateEvaluation",
    "GatePolicy",
    "HarnessError",
    "NoiseSpec",
    "PlanOptions",
    "ScanSpec",
    "accept_baseline",
    "compare",
    "evaluate",
    "evaluate_tasks",
    "fake_quantize",
    "gate",
    "gate_tasks",
    "load_run",
    "noisy",
    "parse_noise",
    "plan",
    "power",
    "replay",
    "scan",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name == "evaluate":
        return importlib.import_module("harness.evaluate")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own = _HOMES[name]
    return getattr(importlib.import_module(module), own)


def __dir__() -> list[str]:
    """Return the public names, and what the package has already loaded."""
    return sorted({*globals(), *__all__})


if "HARNESS_NOISE" in os.environ:  # see harness.noise.environment; without it nothing more is imported here
    from harness.noise.switch import switch_on

    switch_on()
