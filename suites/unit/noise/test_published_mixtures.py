"""Plans of published mixtures of experts on the meta device: sites, rows and shares against a count on paper."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from transformers import CONFIG_MAPPING

from harness.cli.plan_verb import command
from harness.noise.estimate.expected import expected_counts
from harness.noise.flop_coverage import product_share
from harness.noise.meta import meta_model
from harness.noise.planner import build_plan
from harness.spec import parse_noise

pytestmark = pytest.mark.long
LAYERS = 4
"""Decoder layers of the quick test; all other sizes are the published ones."""

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "qwen3_moe": {  # Qwen3-30B-A3B
        **{"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48},
        **{"num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "tie_word_embeddings": False},
        **{"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    },
    "mixtral": {  # Mixtral-8x7B
        **{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    },
    "gpt_oss": {  # gpt-oss-20b
        **{"vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24},
        **{"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64},
        **{"num_local_experts": 32, "num_experts_per_tok": 4},
    },
    "deepseek_v3": {
        **{"vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61},
        **{"num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512},
        **{"qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "first_k_dense_replace": 3},
        **{"n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_shared_experts": 1},
        **{"n_group": 8, "topk_group": 4},
    },
}


@dataclass(frozen=True)
class Paper:
    """Multiplications of one token, counted by hand: in linears, in experts among them, and in all products.

    ``attention`` are those of QK and PV for each (token, key).
    """

    sites: int
    linears: int
    experts: int
    routers: int
    attention: int
    rotary: int

    @property
    def share(self) -> float:
        """Of the linears in all products of one token."""
        return self.linears / (self.linears + self.routers + self.attention + self.rotary)


def qwen3_30b(n: int) -> Paper:
    attention = 2048 * (32 + 4 + 4) * 128 + 32 * 128 * 2048
    experts = n * 8 * 3 * 2048 * 768
    return Paper(6 * n + 1, n * attention + experts + 2048 * 151936, experts, n * 2048 * 128, n * 2 * 32 * 128, 64)


def mixtral_8x7b(n: int) -> Paper:
    attention = 4096 * (32 + 8 + 8) * 128 + 4096 * 4096
    experts = n * 2 * 3 * 4096 * 14336
    return Paper(6 * n + 1, n * attention + experts + 4096 * 32000, experts, n * 4096 * 8, n * 2 * 32 * 128, 64)


def gpt_oss_20b(n: int) -> Paper:
    attention = 2880 * (64 + 8 + 8) * 64 + 64 * 64 * 2880
    experts = n * 4 * 3 * 2880 * 2880
    return Paper(6 * n + 1, n * attention + experts + 2880 * 201088, experts, n * 2880 * 32, n * 2 * 64 * 64, 32)


def deepseek_v3(n: int) -> Paper:
    """The first three layers are dense, the others have a shared expert beside the eight chosen ones."""
    queries = 7168 * 1536 + 1536 * 128 * 192
    keys = 7168 * (512 + 64) + 512 * 128 * 256
    attention = queries + keys + 128 * 128 * 7168
    experts = (n - 3) * 8 * 3 * 7168 * 2048
    dense = 3 * 3 * 7168 * 18432 + (n - 3) * 3 * 7168 * 2048
    whole = n * attention + dense + experts + 7168 * 129280
    sites = n * 5 + 3 * 3 + (n - 3) * 5 + 1
    return Paper(sites, whole, experts, (n - 3) * 7168 * 256, n * 128 * (192 + 128), 32)


PAPERS: Mapping[str, Callable[[int], Paper]] = {
    "qwen3_moe": qwen3_30b,
    "mixtral": mixtral_8x7b,
    "gpt_oss": gpt_oss_20b,
    "deepseek_v3": deepseek_v3,
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_plan_of_a_published_mixture_is_the_one_on_paper(kind: str) -> None:
    model = meta_model(CONFIG_MAPPING[kind](**{**CONFIGS[kind], "num_hidden_layers": LAYERS}))
    plan, paper = build_plan(model, parse_noise("relative_gaussian(0.05)")), PAPERS[kind](LAYERS)
    assert len(plan.sites) == paper.sites
    flops = {name: count / plan.probe.tokens for name, count in plan.probe.flops.items()} if plan.probe else {}
    assert sum(count for name, count in flops.items() if name.endswith(".experts")) == 2 * paper.experts
    share = product_share(plan, model, 1)
    assert (share["flops"], share["perturbed"]) == (
        2 * (paper.linears + paper.routers + paper.attention + paper.rotary),
        2 * paper.linears,
    )
    assert share["share"] == pytest.approx(paper.share)
    longer = paper.linears + paper.routers + 1000 * paper.attention + paper.rotary
    assert product_share(plan, model, 1000)["share"] == pytest.approx(paper.linears / longer, rel=1e-6)


def test_elements_of_experts_are_counted_by_token_and_expert() -> None:
    model = meta_model(CONFIG_MAPPING["mixtral"](**{**CONFIGS["mixtral"], "num_hidden_layers": 1}))
    lines = expected_counts(
        build_plan(model, parse_noise("relative_gaussian(0.05) @ op:linear include:experts")), model
    )
    assert [line.width.per_token for line in lines if line.width] == [2 * 2 * 14336, 2 * 4096]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", CONFIGS)
def test_harness_plan_of_a_published_config_has_the_share_on_paper(kind: str, tmp_path: Path) -> None:
    """All layers, by the command line. 2026-11-29: 4 to 9 s of one core each, the imports left out."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**CONFIG_MAPPING[kind](**CONFIGS[kind]).to_dict(), "model_type": kind}))
    result = CliRunner().invoke(command, ["--config", str(file), "--noise", "relative_gaussian(0.05)", "--json"])
    assert result.exit_code == 0, result.output
    (plan,) = json.loads(result.output)["plans"]
    paper = PAPERS[kind](CONFIGS[kind]["num_hidden_layers"])
    assert plan["sites"] == paper.sites and plan["warnings"] == []
    assert plan["products"]["share"] == pytest.approx(paper.share)
