"""Tiny mixtures of experts with stacked weights, in every way in which transformers runs them, and what they drew."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from harness.noise import NoiseSession, build_plan
from harness.noise.kernel import Kernel
from harness.numerics.keyed_random import normals
from harness.record import SiteCount
from harness.spec import parse_noise

EXPERTS, CHOSEN, HIDDEN, WIDE, LAYERS = 4, 2, 32, 16, 2
IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")
ITEMS = ("one", "two", "three")

_COMMON: Mapping[str, Any] = {
    "vocab_size": 64,
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "moe_intermediate_size": WIDE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": CHOSEN,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_LATENT = {
    "n_routed_experts": EXPERTS,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "mixtral": {**_COMMON, "num_local_experts": EXPERTS, "head_dim": 8},
    "qwen3_moe": {**_COMMON, "num_experts": EXPERTS, "head_dim": 8},
    "gpt_oss": {**_COMMON, "num_local_experts": EXPERTS, "head_dim": 8},
    "deepseek_v3": {**_COMMON, **_LATENT},
}
"""Model type -> configuration: 2 layers, 4 experts of which a token chooses 2; DeepSeek's first layer is dense."""


@functools.cache
def _weights(kind: str) -> Mapping[str, Tensor]:
    model = _built(kind, "eager")
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, value in model.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        found[name] = drawn * 0.3 if value.ndim > 1 else drawn if name.endswith("bias") else value
    return found


def _built(kind: str, experts: str) -> nn.Module:
    config = transformers.CONFIG_MAPPING[kind](**CONFIGS[kind])
    config._experts_implementation = experts
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def mixture(kind: str, experts: str = "grouped_mm") -> nn.Module:
    """A fresh model in evaluation mode, always with the same weights."""
    model = _built(kind, experts)
    model.load_state_dict(_weights(kind))
    return model


def batch(order: Sequence[int] = (0, 1, 2)) -> dict[str, Tensor]:
    """Sequences of 4, 6 and 6 tokens in this order, padded on the left."""
    ids = torch.randint(2, 64, (3, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    return {"input_ids": ids[list(order)], "attention_mask": mask[list(order)]}


def sites_of(kind: str) -> list[str]:
    """Names of the sites of experts."""
    layers = range(1 if kind == "deepseek_v3" else 0, LAYERS)
    return [f"model.layers.{n}.mlp.experts:{field}" for n in layers for field in ("gate_up_proj", "down_proj")]


def noisy_logits(
    model: nn.Module,
    noise: str = "relative_gaussian @ op:linear",
    level: float = 0.05,
    order: Sequence[int] = (0, 1, 2),
) -> tuple[Tensor, Mapping[str, SiteCount]]:
    """Logits of :func:`batch` in ``order`` under ``noise``, put back into the order 0, 1, 2; and the counts."""
    plan = build_plan(model, parse_noise(noise))
    with torch.no_grad(), NoiseSession(model, plan) as session:
        with session.batch([ITEMS[n] for n in order], [0] * len(order), level):
            logits = model(**batch(order), use_cache=False).logits
        return logits[[list(order).index(n) for n in sorted(order)]], session.ledger.drain(level)


def rows_drawn(model: nn.Module, monkeypatch: Any, order: Sequence[int] = (0, 1, 2)) -> list[tuple[int, ...]]:
    """The draws of every row of experts in one forward, bit for bit, in an order of their own."""
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear include:experts"))
    found: list[tuple[int, ...]] = []
    honest = Kernel.perturb

    def recording(self: Kernel, error: Any, y: Tensor, key: Any, level: float, real: Tensor, *rest: Any) -> Any:
        draws = normals(*key).expand(y.shape)[real[:, 0]]
        found.extend(tuple(row) for row in draws.contiguous().view(torch.int32).tolist())
        return honest(self, error, y, key, level, real, *rest)

    owners = [ITEMS[n] for n in order], [0] * len(order), 0.0
    with monkeypatch.context() as patched, torch.no_grad(), NoiseSession(model, plan) as session:
        patched.setattr(Kernel, "perturb", recording)
        with session.batch(*owners):
            model(**batch(order), use_cache=False)
    return sorted(found)
