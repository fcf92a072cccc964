"""Models and prompts of the benchmarks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.engines.generation import Decoding, Prompt
from harness.testing import tiny_model

FIXTURE = Path(__file__).parents[2] / "fixtures" / "arith-qwen2"
REAL_VARIABLE = "HARNESS_BENCH_CHECKPOINT"
REAL = Path(os.environ.get(REAL_VARIABLE) or Path(__file__).parents[2] / "checkpoints" / "smollm2")
"""The real model, where ``make real`` builds it, or a folder that the variable names."""

NEVER_STOP = Decoding(max_new_tokens=24, stop=(), pad=0)


def fixture_model(attention: str = "sdpa") -> PreTrainedModel:
    """The shipped checkpoint, fp32."""
    return AutoModelForCausalLM.from_pretrained(FIXTURE, dtype=torch.float32, attn_implementation=attention).eval()


def real_folder() -> Path:
    """The folder of the real model; skips where there is none."""
    if not (REAL / "config.json").is_file():
        pytest.skip(f"no checkpoint in {REAL}: run `make real`, or set {REAL_VARIABLE}")
    return REAL


def real_model(attention: str = "sdpa") -> PreTrainedModel:
    """The real model, fp32."""
    folder = real_folder()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()


def middle_model(attention: str = "sdpa", vocabulary: int = 1024) -> PreTrainedModel:
    """A Qwen2 shape with hidden 512 and 10 layers, random weights, fp32."""
    return tiny_model(
        attention=attention,
        vocab_size=vocabulary,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
    )


def prompts(count: int, vocabulary: int, shortest: int = 100, longest: int = 140) -> list[Prompt]:
    """``count`` random prompts of different lengths."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(shortest, longest, (count,), generator=generator).tolist()
    return [
        Prompt(f"item{row}", row % 5, tuple(torch.randint(0, vocabulary, (length,), generator=generator).tolist()))
        for row, length in enumerate(lengths)
    ]


def stack_model(layers: int) -> PreTrainedModel:
    """``layers`` layers in the shape of Qwen2.5-1.5B with a small vocabulary, random weights, fp32, eager attention."""
    return tiny_model(
        vocab_size=1024,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=2,
    )
