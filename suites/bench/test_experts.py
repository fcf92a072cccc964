"""What noise and fake quantization cost on stacked experts, against dense linears, as ratios in one run.

Tokens choose 4 of 16 experts of 1024 x 384. ``as many rows`` is a dense block of 1024 x 384 on four times the tokens:
the same FLOPs, the same rows and columns of results; of inputs a half more, as gate and up of a dense block each have
their own. ``as wide`` is one of 1024 x 1536 on the same tokens: the same FLOPs, but its last product gives a token one
row where the experts give four. ``as many weights`` is one of 1024 x 6144 on as many tokens: weights are quantized of
all experts, whichever are chosen. A ratio is (noisy - clean) / (noisy - clean), of processor time of one thread, the
least of rounds in which each model has its turn.
"""

from __future__ import annotations

import functools
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
EXPERTS, CHOSEN, HIDDEN, WIDE = 16, 4, 1024, 384
MANY, FEW = 256, 8
"""Tokens of a prompt or of a batch of many, and of a decode step."""

ROUNDS = {MANY: 15, FEW: 60}
SIZES = {
    **{"vocab_size": 64, "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 8, "head_dim": 32},
    "num_key_value_heads": 2,
}
NOISES = {
    "noise": "relative_gaussian(0.05) @ op:linear include:mlp",
    "weights": "fake_quant(mxfp4) @ op:linear include:mlp at:weight",
    "inputs": "fake_quant(mxfp8_e4m3) @ op:linear include:mlp at:input",
}
MIXTURE, AS_WIDE, AS_MANY, AS_HEAVY = "mixture", "as wide", "as many rows", "as many weights"


def models(experts: str, count: int) -> dict[str, tuple[nn.Module, int]]:
    """Name -> model, tokens."""
    few = {"num_experts": EXPERTS, "num_experts_per_tok": CHOSEN, "moe_intermediate_size": WIDE}
    config = Qwen3MoeConfig(**SIZES, **few, intermediate_size=WIDE)
    config._experts_implementation = experts
    configs = {
        MIXTURE: (config, count),
        AS_WIDE: (Qwen3Config(**SIZES, intermediate_size=CHOSEN * WIDE), count),
        AS_MANY: (Qwen3Config(**SIZES, intermediate_size=WIDE), CHOSEN * count),
        AS_HEAVY: (Qwen3Config(**SIZES, intermediate_size=EXPERTS * WIDE), count),
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


def extra(noise: str, experts: str, count: int) -> dict[str, float]:
    """Name of a model -> seconds that ``noise`` adds to a forward: the least that a noisy one took, less the least that
    a clean one took. What else runs on the machine only ever adds to a time."""
    ways: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}
    for name, (model, tokens) in models(experts, count).items():
        clean = functools.partial(forward, model, torch.arange(tokens)[None] % 64)
        session = NoiseSession(model, build_plan(model, parse_noise(noise)), in_place=True)
        ways[name] = clean, functools.partial(perturbed, session, clean)
    found: dict[tuple[str, int], list[float]] = {(name, number): [] for name in ways for number in (0, 1)}
    for _ in range(ROUNDS[count]):
        for name, both in ways.items():
            for number, way in enumerate(both):
                begun = time.process_time()
                way()
                found[name, number].append(time.process_time() - begun)
    return {name: min(found[name, 1]) - min(found[name, 0]) for name in ways}


@pytest.mark.parametrize("count", [MANY, FEW])
@pytest.mark.parametrize("experts", ["eager", "grouped_mm"])
@pytest.mark.parametrize("kind", NOISES)
def test_experts_against_dense_linears(benchmark, kind, experts, count):
    with threads(1), torch.inference_mode():
        found = benchmark.pedantic(extra, (NOISES[kind], experts, count), rounds=1)
    told = {name: found[MIXTURE] / found[name] for name in (AS_MANY, AS_WIDE, AS_HEAVY)}
    benchmark.extra_info |= {**told, "seconds": found[MIXTURE]}
    words = ", ".join(f"{ratio:.2f} times {name}" for name, ratio in told.items())
    print(f"{kind}, {experts}, {count} tokens: {1e3 * found[MIXTURE]:.2f} ms on experts, {words}")
