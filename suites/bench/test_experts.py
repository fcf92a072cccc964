"""What noise and fake quantization cost on stacked experts, against dense linears of the same FLOPs, as ratios in one
run.

256 tokens, each of which chooses 4 of 16 experts of 1024 x 384. ``as wide`` is a dense block of 1024 x 1536 on 256
tokens: the same FLOPs, but its last product gives a token one row where the experts give four. ``as many rows`` is one
of 1024 x 384 on 1024 tokens: the same FLOPs and the same elements. Quantized weights are those of all 16 experts, 4
and 16 times as many elements as the two dense blocks have. A ratio is (noisy - clean) / (noisy - clean).
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3MoeConfig

from harness.noise import NoiseSession, build_plan
from harness.spec import parse_noise
from suites.bench.timing import threads

pytestmark = pytest.mark.bench
TOKENS, EXPERTS, CHOSEN, HIDDEN, WIDE, ROUNDS = 256, 16, 4, 1024, 384, 5
SIZES = {
    **{"vocab_size": 64, "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 8, "head_dim": 32},
    "num_key_value_heads": 2,
}
NOISES = {
    "noise": "relative_gaussian(0.05) @ op:linear include:mlp",
    "weights": "fake_quant(mxfp4) @ op:linear include:mlp at:weight",
    "inputs": "fake_quant(mxfp8_e4m3) @ op:linear include:mlp at:input",
}
MIXTURE, AS_WIDE, AS_MANY = "mixture", "as wide", "as many rows"


def models(experts: str) -> dict[str, tuple[nn.Module, int]]:
    """Name -> model, tokens."""
    few = {"num_experts": EXPERTS, "num_experts_per_tok": CHOSEN, "moe_intermediate_size": WIDE}
    config = Qwen3MoeConfig(**SIZES, **few, intermediate_size=WIDE)
    config._experts_implementation = experts
    configs = {
        MIXTURE: (config, TOKENS),
        AS_WIDE: (Qwen3Config(**SIZES, intermediate_size=CHOSEN * WIDE), TOKENS),
        AS_MANY: (Qwen3Config(**SIZES, intermediate_size=WIDE), CHOSEN * TOKENS),
    }
    torch.manual_seed(0)
    return {name: (AutoModelForCausalLM.from_config(each).eval(), tokens) for name, (each, tokens) in configs.items()}


def forward(model: nn.Module, ids: torch.Tensor) -> None:
    model(input_ids=ids, use_cache=False)


def perturbed(session: NoiseSession, run: Callable[[], None]) -> None:
    """A new batch each time, so that weights are quantized anew."""
    with session, session.batch(["item"], [0], 1.0 if session.plan.spec.at != "output" else 0.05):
        run()
    session.ledger.drain(0.05)


def extra(noise: str, experts: str) -> dict[str, float]:
    """Name of a model -> seconds that ``noise`` adds to a forward: the median of rounds in which each has its turn."""
    ways: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}
    for name, (model, tokens) in models(experts).items():
        clean = functools.partial(forward, model, torch.arange(tokens)[None] % 64)
        session = NoiseSession(model, build_plan(model, parse_noise(noise)), in_place=True)
        ways[name] = clean, functools.partial(perturbed, session, clean)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, (clean, noisy) in ways.items():
            seconds = []
            for way in (clean, noisy):
                begun = time.perf_counter()
                way()
                seconds.append(time.perf_counter() - begun)
            if turn:
                found[name].append(seconds[1] - seconds[0])
    return {name: statistics.median(values) for name, values in found.items()}


@pytest.mark.parametrize("experts", ["eager", "grouped_mm"])
@pytest.mark.parametrize("kind", NOISES)
def test_experts_against_dense_linears(benchmark, kind, experts):
    with threads(1), torch.inference_mode():
        found = benchmark.pedantic(extra, (NOISES[kind], experts), rounds=1)
    told = {name: found[MIXTURE] / found[name] for name in (AS_WIDE, AS_MANY)}
    benchmark.extra_info |= {**told, "seconds": found[MIXTURE]}
    print(f"{kind}, {experts}: {found[MIXTURE]:.4f} s on experts, {told}")
