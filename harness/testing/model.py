"""Builds tiny models and checkpoints with random weights: the same seed gives the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.exceptions import HarnessError
from harness.text import nearest

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_DECODER = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("qwen2", "llama", "mistral"), _DECODER),
    **{name: {**_DECODER, "head_dim": 8} for name in ("qwen3", "gemma")},
    "mixtral": {**_DECODER, "num_local_experts": 2},
    "gpt2": {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
}
"""Name of an architecture in transformers -> the sizes that make it tiny."""

CONTEXT = 4096
_CHECKPOINT = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
}
"""Heads of 32, which every engine can run."""


def tiny_config(architecture: str = "qwen2", **changes: Any) -> PretrainedConfig:
    """Return the configuration of a tiny model; ``changes`` go into it under the names that transformers uses.

    Raises :class:`HarnessError` for an architecture that is none of :data:`ARCHITECTURES`.
    """
    from transformers import CONFIG_MAPPING

    if architecture not in ARCHITECTURES:
        rule = f"tiny ones are {', '.join(ARCHITECTURES)}"
        raise HarnessError(f"architecture {architecture!r}", rule, nearest(architecture, ARCHITECTURES))
    config: PretrainedConfig = CONFIG_MAPPING[architecture](**{**ARCHITECTURES[architecture], **changes})
    return config


def tiny_model(
    architecture: str = "qwen2",
    seed: int = 0,
    attention: str = "eager",
    dtype: torch.dtype | None = None,
    **changes: Any,
) -> PreTrainedModel:
    """Return a tiny causal model with the random weights of ``seed``, in evaluation mode, on the CPU.

    ``attention`` is an implementation of transformers, ``dtype`` what the weights (drawn in float32) are converted to;
    ``changes`` are sizes as in :func:`tiny_config`. The global random state is left as it was.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = tiny_config(architecture, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention, dtype=torch.float32
        )
    return model.eval() if dtype is None else model.eval().to(dtype)


def tiny_checkpoint(folder: Path | str, seed: int = 0, dtype: torch.dtype | None = None, **changes: Any) -> Path:
    """Write a checkpoint that every engine can evaluate into ``folder`` and return its path; it has learned nothing.

    A Qwen2 of one layer with random weights and a byte-level tokenizer with a chat template; ``changes`` are sizes as
    in :func:`tiny_config`.
    """
    from harness.testing.tokenizer import build_tokenizer

    tokenizer = build_tokenizer(CONTEXT)
    special = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    path = Path(folder)
    tiny_model("qwen2", seed, dtype=dtype, **{**_CHECKPOINT, **special, **changes}).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
