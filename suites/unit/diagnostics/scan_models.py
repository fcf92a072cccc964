"""Tiny models of several architectures, saved as checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GptOssConfig,
    GptOssForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from harness.testing import tiny_model

DECODER = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
SMALL = DECODER | {"num_hidden_layers": 2}
NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
GROUPED = SMALL | NO_SPECIAL_TOKENS | {"num_key_value_heads": 2}

BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen2": lambda: tiny_model(attention="sdpa", **NO_SPECIAL_TOKENS),
    "gpt2": lambda: tiny_model("gpt2", attention="sdpa", bos_token_id=0, eos_token_id=0),
    "bert": lambda: BertForMaskedLM(BertConfig(**SMALL, max_position_embeddings=64)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    ),
    "vit": lambda: ViTForImageClassification(
        ViTConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=16,
            patch_size=8,
        )
    ),
    "mixtral": lambda: tiny_model("mixtral", attention="sdpa", **NO_SPECIAL_TOKENS),
    "gpt_oss": lambda: GptOssForCausalLM(
        GptOssConfig(**GROUPED, num_local_experts=2, head_dim=8, layer_types=["full_attention"] * 2)
    ),
}


def build(kind: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model ``kind`` with the same random weights every time."""
    torch.manual_seed(0)
    return BUILDERS[kind]().eval().to(dtype)


def save(model: PreTrainedModel, folder: Path, shard: str = "50GB") -> Path:
    """``folder`` with the model in it."""
    model.save_pretrained(folder, max_shard_size=shard)
    return folder
