"""The architectures that are tried, in one table: tiny sizes of each, what its linears give for one token, and what is
refused with which words. ``docs/architectures.md`` holds the same table in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

LAYERS, HIDDEN, HEADS, STORED, HEAD, VOCAB, MLP, EXPERT, STATE = 2, 32, 4, 2, 8, 260, 48, 16, 64
"""Layers, hidden width, query and stored heads, their width, vocabulary (bytes and special tokens), widths of an MLP,
of an expert and of a recurrent state."""

CHOSEN, OF = 2, 4
"""Experts that a token chooses, of :data:`OF`."""

SIZES: Mapping[str, Any] = {
    **{"vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": MLP, "num_hidden_layers": LAYERS},
    **{"num_attention_heads": HEADS, "num_key_value_heads": STORED, "max_position_embeddings": 4096},
    **{"pad_token_id": 256, "bos_token_id": 259, "eos_token_id": 258},
}
WIDE: Mapping[str, Any] = {"head_dim": HEAD}
MIXED: Mapping[str, Any] = {"layer_types": ["sliding_attention", "full_attention"]}
GPT: Mapping[str, Any] = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 4096}
SSM: Mapping[str, Any] = {
    **{"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8},
}
DELTA: Mapping[str, Any] = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    **{"layer_types": ["linear_attention", "full_attention"], **WIDE},
}
ROUTED: Mapping[str, Any] = {"num_experts_per_tok": CHOSEN, "moe_intermediate_size": EXPERT}
LATENT: Mapping[str, Any] = {
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12},
    **{"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "num_key_value_heads": HEADS},
    **{"n_group": 1, "topk_group": 1, **ROUTED},
}

Q, KV = HEADS * HEAD, STORED * HEAD
ATTENTION = (Q, KV, KV, HIDDEN)
FUSED_QKV = (3 * HIDDEN, HIDDEN)
GATED, PLAIN, WIDEST = (MLP, MLP, HIDDEN), (MLP, HIDDEN), (4 * HIDDEN, HIDDEN)
LLAMA = ATTENTION + GATED
MAMBA = (STATE + (STATE + 2 * 8) + 8, HIDDEN)
"""In: the gate, the state with its two groups of 8, a step for each of 8 heads; out."""

LATENT_ATTENTION = (16, HEADS * 16, 16 + 8, HEADS * (8 + 12), HIDDEN)
SHARED = (EXPERT, EXPERT, HIDDEN)


def experts(width: int) -> tuple[int, ...]:
    """What stacked experts of this width give: gate and up together, and down, of each that the token chose."""
    return (CHOSEN * 2 * width, CHOSEN * HIDDEN)


@dataclass(frozen=True)
class Row:
    """One architecture: its ``title``, sizes beyond :data:`SIZES`, and features that the linears of each layer give for
    one token (the head's are :data:`VOCAB`).

    ``attentions`` counts layers whose QK and PV ``profile:matmul`` reaches, ``values`` is the width of a token's values
    in one of them. ``refused`` are words of the refusal of that profile (empty: it is evaluated), ``place`` is where
    noise is put instead (default: on the linears). ``thorough`` rows are left to dated runs: others stand for their
    code. ``note`` is for readers.
    """

    title: str
    layers: tuple[tuple[int, ...], ...]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    attentions: int = LAYERS
    values: int = Q
    place: str = ""
    refused: str = ""
    thorough: bool = False
    whole: bool = False
    note: str = ""

    @property
    def linears(self) -> int:
        """Return the linear sites, the head included."""
        return sum(len(layer) for layer in self.layers) + 1

    @property
    def matrices(self) -> int:
        """Return the matrices in the files but the head's: gate, up and down of each expert, where sites are two,
        unless experts are stored as a ``whole``."""
        stacked = sum(
            experts(width) == layer[place : place + 2]
            for layer in self.layers
            for place in range(len(layer))
            for width in (MLP, EXPERT)
        )
        return self.linears - 1 + (0 if self.whole else stacked * (3 * OF - 2))

    @property
    def noise(self) -> str:
        """Return the noise that the row is evaluated under."""
        return f"relative_gaussian @ {self.place or ('op:linear' if self.refused else 'profile:matmul')}"

    @property
    def width(self) -> int:
        """Return what all linears but the head give for one token."""
        return sum(sum(layer) for layer in self.layers)


WHY: Mapping[str, str] = {
    "soft-capping and sinks are not supported": "refused: its scores are capped, or its softmax has sinks",
    "which of its rows belongs to which item cannot be told": "refused: its products fold items or tokens together",
}
"""Words of a refusal -> what it means, for readers."""

CAPPED = "soft-capping and sinks are not supported"
NAMED = "profile:matmul include:layers,lm_head"
"""The products, by name: at these sizes the delta rule has most of the floating-point operations."""

RULE = "the products of its delta rule stay clean, and are listed"
UNTOLD = "which of its rows belongs to which item cannot be told"


def both(*layer: int) -> tuple[tuple[int, ...], ...]:
    """Both layers alike."""
    return (layer,) * LAYERS


TABLE: Mapping[str, Row] = {
    "qwen2": Row("Qwen2, Qwen2.5", both(*LLAMA)),
    "qwen3": Row("Qwen3", both(*LLAMA), WIDE),
    "llama": Row("Llama 2, Llama 3", both(*LLAMA), thorough=True),
    "gemma": Row("Gemma 1", both(*LLAMA), WIDE),
    "gemma2": Row("Gemma 2", both(*LLAMA), {**WIDE, **MIXED, "query_pre_attn_scalar": 8}, refused=CAPPED),
    "gemma3_text": Row("Gemma 3 (text)", both(*LLAMA), {**WIDE, **MIXED, "query_pre_attn_scalar": 8}),
    "mistral": Row("Mistral", both(*LLAMA), thorough=True),
    "phi3": Row("Phi-3, Phi-4", both(Q + 2 * KV, HIDDEN, 2 * MLP, HIDDEN)),
    "olmo2": Row("OLMo 2", both(*LLAMA), thorough=True),
    "olmo3": Row("OLMo 3", both(*LLAMA), MIXED),
    "granite": Row("Granite", both(*LLAMA)),
    "cohere": Row("Cohere (Command R)", both(*LLAMA)),
    "cohere2": Row("Cohere 2 (Command R7B)", both(*LLAMA), MIXED, thorough=True),
    "stablelm": Row("StableLM", both(*LLAMA), thorough=True),
    "gpt_neox": Row("GPT-NeoX, Pythia", both(*FUSED_QKV, *PLAIN)),
    "glm4": Row("GLM-4", both(*ATTENTION, 2 * MLP, HIDDEN), WIDE),
    "smollm3": Row("SmolLM3", both(*LLAMA), thorough=True),
    "nemotron": Row("Nemotron", both(*ATTENTION, *PLAIN)),
    "falcon": Row("Falcon", both(Q + 2 * KV, HIDDEN, *WIDEST), {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "gptj": Row("GPT-J", both(Q, Q, Q, HIDDEN, *PLAIN), {**GPT, "n_inner": MLP, "rotary_dim": 4}),
    "bloom": Row("Bloom", both(*FUSED_QKV, *WIDEST), {"n_layer": LAYERS, "n_head": HEADS}, refused=UNTOLD),
    "mpt": Row(
        "MPT", both(*FUSED_QKV, *WIDEST), {"d_model": HIDDEN, "n_heads": HEADS, "n_layers": LAYERS, "max_seq_len": 4096}
    ),
    "bitnet": Row("BitNet", both(*LLAMA)),
    "gpt2": Row("GPT-2", both(*FUSED_QKV, *WIDEST), GPT),
    "opt": Row("OPT", both(Q, Q, Q, HIDDEN, *PLAIN), {"ffn_dim": MLP, "word_embed_proj_dim": HIDDEN}, thorough=True),
    "phi": Row("Phi-1, Phi-2", both(*ATTENTION, *PLAIN), thorough=True),
    "starcoder2": Row("StarCoder2", both(*ATTENTION, *PLAIN), thorough=True),
    "exaone4": Row("EXAONE 4", both(*LLAMA), {**MIXED, "sliding_window": 4096}, thorough=True),
    "hunyuan_v1_dense": Row("HunYuan (dense)", both(*LLAMA), WIDE, thorough=True),
    "seed_oss": Row("Seed-OSS", both(*LLAMA), WIDE, thorough=True),
    "ernie4_5": Row("ERNIE 4.5 (dense)", both(*LLAMA), WIDE, thorough=True),
    "lfm2": Row(
        "LFM2",
        ((3 * HIDDEN, HIDDEN, 32, 32, HIDDEN), (*ATTENTION, 32, 32, HIDDEN)),
        {"full_attn_idxs": [1], "block_multiple_of": 8},
        attentions=1,
        note="its short convolutions stay clean, and are listed",
    ),
    "qwen3_next": Row(
        "Qwen3-Next",
        (
            (2 * 16 + 2 * 32, 2 * 4, HIDDEN, *experts(EXPERT), *SHARED, 1),
            (2 * Q, KV, KV, HIDDEN, *experts(EXPERT), *SHARED, 1),
        ),
        {**DELTA, **ROUTED, "num_experts": 4, "shared_expert_intermediate_size": EXPERT},
        attentions=1,
        place=NAMED,
        note=RULE,
    ),
    "qwen3_5_text": Row(
        "Qwen3.5 (text)",
        ((2 * 16 + 32, 32, 4, 4, HIDDEN, *GATED), (2 * Q, KV, KV, HIDDEN, *GATED)),
        DELTA,
        attentions=1,
        place=NAMED,
        note=RULE,
    ),
    "zamba2": Row(
        "Zamba2",
        (MAMBA, (*MAMBA, HIDDEN, 64, 32, 32, HIDDEN, 2 * MLP, HIDDEN, 128, 2 * MLP)),
        {
            **{"mamba_d_state": 8, "mamba_headdim": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "num_mem_blocks": 1},
            **{"layers_block_type": ["mamba", "hybrid"], "hybrid_layer_ids": [1], "chunk_size": 8},
        },
        attentions=1,
        values=2 * HIDDEN,
        thorough=True,
        note="its convolutions stay clean, and are listed",
    ),
    "falcon_h1": Row(
        "Falcon-H1",
        both(*MAMBA, *LLAMA),
        {**SSM, **WIDE, "mamba_d_ssm": STATE},
        note="its convolutions stay clean, and are listed",
    ),
    "jamba": Row(
        "Jamba",
        ((2 * STATE, 4 + 2 * 8, STATE, HIDDEN, *GATED), LLAMA),
        {
            **{"num_experts": 1, "num_experts_per_tok": 1, "mamba_d_state": 8, "mamba_dt_rank": 4},
            **{"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
        },
        attentions=1,
        thorough=True,
        note="its convolutions stay clean, and are listed",
    ),
    "bamba": Row(
        "Bamba",
        ((*MAMBA, *GATED), LLAMA),
        {**SSM, "attn_layer_indices": [1]},
        attentions=1,
        note="its convolutions stay clean, and are listed",
    ),
    "mixtral": Row("Mixtral", both(*ATTENTION, *experts(MLP)), {"num_local_experts": 4}),
    "qwen2_moe": Row(
        "Qwen2-MoE",
        both(*ATTENTION, *experts(EXPERT), *SHARED, 1),
        {**ROUTED, "num_experts": 4, "shared_expert_intermediate_size": EXPERT},
    ),
    "qwen3_moe": Row("Qwen3-MoE", both(*ATTENTION, *experts(EXPERT)), {**WIDE, **ROUTED, "num_experts": 4}),
    "olmoe": Row(
        "OLMoE", both(*ATTENTION, *experts(MLP)), {"num_experts": 4, "num_experts_per_tok": CHOSEN}, thorough=True
    ),
    "gpt_oss": Row(
        "gpt-oss",
        both(*ATTENTION, *experts(MLP)),
        {**WIDE, **MIXED, "num_local_experts": 4, "num_experts_per_tok": CHOSEN},
        refused=CAPPED,
        whole=True,
    ),
    "deepseek_v2": Row(
        "DeepSeek-V2",
        ((*LATENT_ATTENTION, *GATED), (*LATENT_ATTENTION, *experts(EXPERT), *SHARED)),
        LATENT,
        values=HEADS * 12,
    ),
    "deepseek_v3": Row(
        "DeepSeek-V3, Kimi K2",
        ((*LATENT_ATTENTION, *GATED), (*LATENT_ATTENTION, *experts(EXPERT), *SHARED)),
        LATENT,
        values=HEADS * 12,
        thorough=True,
    ),
    "glm4_moe": Row(
        "GLM-4.5 (mixture)",
        (LLAMA, (*ATTENTION, *experts(EXPERT), *SHARED)),
        {**WIDE, **ROUTED, "n_routed_experts": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    ),
}


@dataclass(frozen=True)
class Refused:
    """An architecture that no evaluation takes: its ``title``, words of the refusal, and the reason for readers."""

    title: str
    words: str
    reason: str
    sizes: Mapping[str, Any] = field(default_factory=dict)


REFUSED: Mapping[str, Refused] = {
    "llama4_text": Refused(
        "Llama 4",
        "would stay clean",
        "its experts all multiply every token, in one product of their own: exclude:experts leaves them out by name",
        {**WIDE, "num_local_experts": 4, "intermediate_size_mlp": MLP, "attention_chunk_size": 4096},
    ),
    "granitemoe": Refused(
        "Granite (mixture)",
        "would stay clean",
        "its experts are cut out of one product of their own: leave them out by name, as the message says",
        {"num_local_experts": 4, "num_experts_per_tok": CHOSEN},
    ),
    "granitemoeshared": Refused(
        "Granite (mixture with a shared expert)",
        "would stay clean",
        "as Granite (mixture)",
        {"num_local_experts": 4, "num_experts_per_tok": CHOSEN, "shared_intermediate_size": EXPERT},
    ),
    "jetmoe": Refused(
        "JetMoe",
        "would stay clean",
        "as Granite (mixture), and experts make its queries too: exclude:experts,input_linear,output_linear",
        {"num_local_experts": 4, "num_experts_per_tok": CHOSEN, "kv_channels": HEAD},
    ),
    "mamba": Refused(
        "Mamba", "keeps a cache of its own", "batched decoding passes transformers' own cache from step to step"
    ),
    "mamba2": Refused(
        "Mamba 2",
        "keeps a cache of its own",
        "as Mamba",
        {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8, "chunk_size": 8},
    ),
    "rwkv": Refused("RWKV", "keeps a cache of its own", "as Mamba"),
    "recurrent_gemma": Refused(
        "RecurrentGemma",
        "keeps a cache of its own",
        "its modules remember the batch, whose rows cannot be dropped",
        WIDE,
    ),
}


def page() -> Iterator[str]:
    """Yield the lines of the two tables of ``docs/architectures.md``."""
    yield "| model | `model_type` | linears | QK and PV in eager attention | remarks |"
    yield "|---|---|---|---|---|"
    for name, row in TABLE.items():
        products = WHY[row.refused] if row.refused else "reached"
        yield f"| {row.title} | `{name}` | reached | {products} | {row.note} |"
    yield ""
    yield "| model | `model_type` | the refusal says | why |"
    yield "|---|---|---|---|"
    for name, out in REFUSED.items():
        yield f"| {out.title} | `{name}` | {out.words} | {out.reason} |"


def build(name: str, attention: str = "eager", **changes: Any) -> PreTrainedModel:
    """Return the tiny model of this type, with the same random weights every time."""
    sizes = TABLE[name].sizes if name in TABLE else REFUSED[name].sizes
    config = CONFIG_MAPPING[name](**{**SIZES, **sizes, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.eval()
