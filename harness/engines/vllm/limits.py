"""What is refused before vLLM is started, each with one clear error, because it would fail late or count wrongly."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.checkpoints.folder import unread_weights
from harness.checkpoints.lora import read_config, read_updates
from harness.engines.protocol import Evaluation
from harness.exceptions import CheckpointError, HarnessError, NoiseSpecError
from harness.installed import full_setup
from harness.integrations.vllm_plugin.payload import NAMELESS
from harness.noise.plan import InjectionPlan
from harness.noise.sites import CONV1D, LINEAR, SDPA
from harness.noise.text_only import text_of
from harness.spec import EvalSpec

REACHED = (LINEAR, CONV1D, *NAMELESS, SDPA)
"""Operators of transformers that vLLM runs as layers of their own, or whose result can be told in a fused one."""

MULTIPROCESSING = "VLLM_ENABLE_V1_MULTIPROCESSING"

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM has room for."""

_TO_TRANSFORMERS = "use --engine transformers (with --attention eager for QK, PV and softmax)"


def check_installed() -> None:
    """Raise :class:`HarnessError` where vLLM cannot be imported."""
    set_environment()
    try:
        importlib.import_module("vllm")
    except Exception as error:  # a broken installation raises anything
        raise HarnessError(
            "--engine vllm",
            f"vLLM cannot be imported here ({type(error).__name__}: {str(error).partition(chr(10))[0]:.160})",
            f"install it with {full_setup()}; harness doctor says what is missing",
        ) from None


def check_adapter(adapter: Path) -> int:
    """Return the least rank that vLLM must make room for to run ``adapter`` beside its base.

    Raises :class:`CheckpointError` for what vLLM would run otherwise than peft: ranks above its largest, and scalings
    that differ from module to module (vLLM knows one).
    """
    updates = read_updates(adapter, read_config(adapter))
    rank = max(update.a.shape[0] for update in updates.values())
    room = next((each for each in RANKS if each >= rank), None)
    if room is None or len({update.scaling for update in updates.values()}) > 1:
        raise CheckpointError(
            f"adapter {adapter} of rank {rank} --adapter unmerged",
            f"vLLM runs one scaling for all modules, and ranks up to {RANKS[-1]}",
            "use --adapter merged, or --engine transformers",
        )
    return room


def check_scored(evaluation: Evaluation) -> None:
    """Raise :class:`HarnessError` for texts that are scored up to the end of the context: vLLM feeds their last token
    too, and samples one."""
    context = getattr(evaluation.checkpoint.model.config.get_text_config(), "max_position_embeddings", None)
    if evaluation.probed[0].forced and context is not None and evaluation.longest > context:
        raise HarnessError(
            f"a text of {evaluation.longest - 1} tokens in vLLM",
            f"it needs room for one more, and the context holds {context}",
            _TO_TRANSFORMERS,
        )


def check_files(folder: Path) -> None:
    """Raise :class:`CheckpointError` for safetensors files that transformers leaves alone: vLLM may load them too."""
    others = unread_weights(folder)
    if others:
        raise CheckpointError(
            f"checkpoint {folder}",
            f"it holds {others[0]} besides what transformers loads, and vLLM may load that",
            "move it out of the folder, or use --engine transformers",
        )


def check_noise(spec: EvalSpec) -> None:
    """Raise :class:`NoiseSpecError` for operators that vLLM's kernels hide."""
    hidden = sorted(spec.noise.operators - set(REACHED)) if spec.noise.asked_ops else []
    if hidden:
        raise NoiseSpecError(f"op:{','.join(hidden)} in vLLM", "its fused kernels hide them", _TO_TRANSFORMERS)


def check_plans(plans: Sequence[InjectionPlan]) -> None:
    """Raise :class:`NoiseSpecError` for sites that vLLM does not have as a layer of the same kind."""
    for plan in plans:
        for site in plan.sites:
            if site.field:
                raise NoiseSpecError(f"{site.name} in vLLM", "its fused experts hide their products", _TO_TRANSFORMERS)
            if site.op not in REACHED or (site.point != "output" and site.op != LINEAR):
                raise NoiseSpecError(f"{site.name} ({site.op}) in vLLM", "no layer of it can be told", _TO_TRANSFORMERS)


def check_model(path: Path, config: Any) -> None:
    """Raise :class:`CheckpointError` for head sizes that vLLM's attention does not have here, and for checkpoints
    that are quantized already or multimodal."""
    text = config.get_text_config()
    if getattr(config, "quantization_config", None) is not None:
        raise CheckpointError(
            f"checkpoint {path}",
            "it is quantized already, and vLLM takes one quantization",
            "give its weights in float32, bfloat16 or float16",
        )
    if text_of(config) is not None:
        raise CheckpointError(
            f"checkpoint {path} of type {config.model_type}",
            "it is multimodal, and which of its linears vLLM runs for text is not known here",
            "use --engine transformers",
        )
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    supported = _head_sizes()
    if supported and size not in supported:
        raise CheckpointError(
            f"checkpoint {path} with head size {size}",
            f"vLLM's attention here has {', '.join(str(each) for each in supported)}",
            "use --engine transformers",
        )


def _head_sizes() -> Sequence[int]:
    """Those of vLLM's attention on this platform; empty where it takes any."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return ()
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    return tuple(CPUAttentionBackend.get_supported_head_sizes())


def set_environment() -> None:
    """Set what vLLM reads from the environment, where the user has not set it already.

    Needed before vLLM is imported: no network, no binding of threads to cores, the model runner that says which rows
    belong to which request.
    """
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def starting_environment(timeout: float) -> Iterator[None]:
    """Set what the processes of an engine inherit and no other child of this one may: threads, and vLLM's own time
    limit.

    One thread for two logical cores, unless the user says otherwise: more of them spin against each other.
    """
    given = {
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // 2)),
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": str(max(1, int(timeout))),
    }
    added = [name for name in given if name not in os.environ]
    os.environ.update({name: given[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
