"""The architectures that are tried: tiny sizes of each, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

SIZES: Mapping[str, Any] = {
    **{"vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096},
    **{"pad_token_id": 256, "bos_token_id": 259, "eos_token_id": 258},
}
HEADS = {"head_dim": 8}
SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12}

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": HEADS,
    "llama": {},
    "gemma": HEADS,
    "gemma2": HEADS | {"query_pre_attn_scalar": 8, "sliding_window": 4096},
    "gemma3_text": HEADS | {"query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "mistral": {},
    "phi3": {},
    "olmo2": {},
    "olmo3": {"layer_types": ["sliding_attention", "full_attention"]},
    "granite": {},
    "cohere": {},
    "cohere2": {"layer_types": ["sliding_attention", "full_attention"]},
    "stablelm": {},
    "gpt_neox": {},
    "glm4": HEADS,
    "smollm3": {},
    "nemotron": {},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "rotary_dim": 4, "n_positions": 4096},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "expansion_ratio": 2, "max_seq_len": 4096},
    "bitnet": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 4096},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi": {},
    "starcoder2": {},
    "ernie4_5": HEADS,
    "exaone4": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4096},
    "hunyuan_v1_dense": HEADS,
    "seed_oss": HEADS,
    "lfm2": {"full_attn_idxs": [1], "block_multiple_of": 8},
    "qwen3_next": DELTA
    | HEADS
    | {
        "layer_types": ["linear_attention", "full_attention"],
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "qwen3_5_text": DELTA | HEADS | {"layer_types": ["linear_attention", "full_attention"]},
    "zamba2": {
        **{"mamba_d_state": 8, "mamba_headdim": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "num_mem_blocks": 1},
        **{"layers_block_type": ["mamba", "hybrid"], "hybrid_layer_ids": [1], "chunk_size": 8, "use_mem_rope": True},
    },
    "falcon_h1": SSM | HEADS | {"mamba_d_ssm": 64},
    "jamba": {
        **{"num_experts": 1, "num_experts_per_tok": 1, "mamba_d_state": 8, "mamba_dt_rank": 4},
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    },
    "bamba": SSM | {"attn_layer_indices": [1]},
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "qwen3_moe": HEADS | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": HEADS
    | {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": MLA
    | {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "n_shared_experts": 1,
        "num_key_value_heads": 4,
        "n_group": 1,
        "topk_group": 1,
    },
    "deepseek_v3": MLA
    | {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "n_shared_experts": 1,
        "num_key_value_heads": 4,
        "n_group": 1,
        "topk_group": 1,
    },
    "glm4_moe": HEADS
    | {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
    },
    "llama4_text": HEADS | {"num_local_experts": 4, "intermediate_size_mlp": 48, "attention_chunk_size": 4096},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


def build(name: str, attention: str = "eager", **changes: Any) -> PreTrainedModel:
    """The tiny model of this type, with the same random weights every time."""
    config = CONFIG_MAPPING[name](**{**SIZES, **FAMILIES[name], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.eval()
