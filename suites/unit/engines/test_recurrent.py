"""Models with recurrent states: rows that end early leave the batch, and those that cannot be driven are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from harness.checkpoints.architecture import check_decodable
from harness.engines.generation import Decoding, Prompt, generate

pytestmark = pytest.mark.unit

SIZES: dict[str, Any] = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
HYBRIDS: dict[str, dict[str, Any]] = {
    "Lfm2Config": {"full_attn_idxs": [1], "block_multiple_of": 8},
    "Qwen3_5TextConfig": {**DELTA, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"]},
    "Zamba2Config": {
        **{"mamba_d_state": 8, "mamba_headdim": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "num_mem_blocks": 1},
        **{"layers_block_type": ["mamba", "hybrid"], "hybrid_layer_ids": [1], "chunk_size": 8, "use_mem_rope": True},
    },
    "FalconH1Config": {**MAMBA, "mamba_d_ssm": 64, "head_dim": 8},
    "JambaConfig": {
        **{"num_experts": 1, "num_experts_per_tok": 1, "mamba_d_state": 8, "mamba_dt_rank": 4},
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    },
    "BambaConfig": {**MAMBA, "attn_layer_indices": [1]},
}


@pytest.mark.parametrize("name", HYBRIDS)
def test_rows_that_end_early_leave_the_others_their_tokens(name: str) -> None:
    config = getattr(transformers, name)(**SIZES, **HYBRIDS[name])
    check_decodable(config, Path("a checkpoint"))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    draw = torch.Generator().manual_seed(1)
    prompts = [
        Prompt(str(row), 0, tuple(torch.randint(3, 64, (4 + row % 3,), generator=draw).tolist())) for row in range(6)
    ]
    free = [generate(model, [prompt], Decoding(8, (63,), 0))[0] for prompt in prompts]
    stops = (free[0].tokens[1], free[1].tokens[min(3, len(free[1].tokens) - 1)])
    alone = [generate(model, [prompt], Decoding(8, stops, 0))[0] for prompt in prompts]
    assert len({one.steps for one in alone}) > 1
    assert generate(model, prompts, Decoding(8, stops, 0)) == alone
