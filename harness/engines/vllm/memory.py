"""What vLLM engines need of the memory: weights, keys and values of a whole batch, and themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.engines.protocol import Evaluation
from harness.exceptions import HarnessError
from harness.spec import EngineOptions

GIB = 2**30
OVERHEAD = 2 * GIB
"""Resident memory of an engine without a model: 1.7 GiB in one process was measured."""
BLOCK = 128
"""Tokens for which vLLM sets aside memory at a time on CPUs."""


def cache_bytes(config: Any, dtype_bytes: int, sequences: int, tokens: int) -> int:
    """Return bytes of keys and values of ``sequences`` sequences of ``tokens`` tokens."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * size * dtype_bytes * sequences * tokens)


def cache_of(evaluation: Evaluation, options: EngineOptions) -> int:
    """Return bytes of keys and values that one engine needs to run a whole batch of the longest answers; at least 1
    GiB."""
    rounded = -(-evaluation.longest // BLOCK) * BLOCK
    size = next(evaluation.checkpoint.model.parameters()).element_size()
    return max(GIB, cache_bytes(evaluation.checkpoint.model.config, size, options.batch_size, rounded))


def check_room(evaluation: Evaluation, options: EngineOptions) -> None:
    """Do :func:`check_memory` for all engines of an evaluation, from the outline of its model."""
    weights = sum(weight.numel() * weight.element_size() for weight in evaluation.checkpoint.model.parameters())
    check_memory(evaluation.checkpoint.path, weights, cache_of(evaluation, options), options.workers)


def check_memory(path: Path, weights: int, cache: int, workers: int) -> None:
    """Raise :class:`HarnessError` where weights, cache and overhead of all workers exceed the free memory.

    On a machine with an accelerator vLLM measures its memory itself and says so.
    """
    import psutil
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    needed, free = workers * (weights + cache + OVERHEAD), psutil.virtual_memory().available
    if needed > free:
        raise HarnessError(
            f"checkpoint {path} on {workers} vLLM engines needs about {needed / GIB:.1f} GiB of memory",
            f"{free / GIB:.1f} GiB are free (weights {weights / GIB:.1f}, cache {cache / GIB:.1f}, overhead "
            f"{OVERHEAD / GIB:.0f} GiB each)",
            "give fewer --workers, a smaller --batch-size, or a machine with more",
        )
