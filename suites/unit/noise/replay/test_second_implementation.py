"""The second implementation of keyed noise against the engine: same logits at every step, for every error model."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from harness.engines.generation import Decoding, Prompt, generate
from harness.engines.sessions import open_sessions
from harness.noise.plan import InjectionPlan
from harness.noise.planner import build_plan
from harness.noise.replay.draws import Side
from harness.noise.replay.errors import perturbed
from harness.noise.replay.forcing import Answer, replay
from harness.noise.replay.hooks import Layer
from harness.spec import parse_noise
from harness.spec.errors import ERROR_MODELS
from harness.spec.formats import FORMATS

pytestmark = pytest.mark.unit
STEPS = 5
PROMPTS = (
    Prompt("one", 0, (3, 4, 5, 6, 7, 8, 9)),
    Prompt("one", 1, (3, 4, 5, 6, 7, 8, 9)),
    Prompt("two", 0, (9, 8, 7)),
    Prompt("three", 2, (10, 11, 12, 13, 14)),
)
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 0.35, torch.float16: 0.03}
STRENGTHS = {"truncation": 0.01, "deadzone": 0.02, "bit_flip": 0.02, "spike": 0.01, "stuck_at": 0.05, "stuck_lane": 0.3}
STRENGTHS |= {"bit_flips": 0.0005, "fault_mix": 0.0005}
NAMES = sorted(set(ERROR_MODELS) - {"nondeterministic"})


def model_of(kind: str, attention: str = "sdpa", dtype: torch.dtype = torch.float32, **more: Any) -> Any:
    sizes = {"vocab_size": 40, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if kind == "gpt2":
        sizes |= {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    else:
        sizes |= {
            **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
            **{"num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8},
        }
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[kind](**sizes, **more)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model.to(dtype)


def distance(model: Any, noise: str, level: float, quantize: tuple[str, ...] = ()) -> tuple[float, float]:
    """(largest distance of a logit, largest gap of a token) between the engine's answers and their replay."""
    plan = build_plan(model, parse_noise(noise))
    quantizers = tuple(build_plan(model, parse_noise(line)) for line in quantize)
    decoding = Decoding(STEPS, (), 0)
    items, seeds = [prompt.item for prompt in PROMPTS], [prompt.seed for prompt in PROMPTS]
    with open_sessions(model, plan, quantizers) as session, session.batch(items, seeds, level):
        made = generate(model, PROMPTS, decoding, session)
    answers = [
        Answer(prompt.item, prompt.seed, prompt.tokens, done.tokens, False)
        for prompt, done in zip(PROMPTS, made, strict=True)
    ]
    found = dict(replay(model, layers(*quantizers, plan), answers, level, ()))
    assert sorted(found) == [0, 1, 2, 3]
    apart = [
        abs(one - two) for n, done in enumerate(made) for one, two in zip(done.logits, found[n].logits, strict=True)
    ]
    return max(apart), max(max(again.gaps) for again in found.values())


def layers(*plans: InjectionPlan) -> list[Layer]:
    return [Layer(plan.spec, tuple(site.name for site in plan.sites)) for plan in plans]


def moved(model: Any, noise: str, level: float) -> float:
    """How far the noise moves a logit, from the second implementation alone."""
    plan = build_plan(model, parse_noise(noise))
    answers = [Answer(prompt.item, prompt.seed, prompt.tokens, (1, 2, 3), False) for prompt in PROMPTS]
    noisy, clean = (dict(replay(model, layers(plan), answers, at, ())) for at in (level, 0.0))
    return max(abs(a - b) for n in noisy for a, b in zip(noisy[n].logits, clean[n].logits, strict=True))


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_error_model(name: str, dtype: torch.dtype) -> None:
    model = model_of("qwen2", dtype=dtype)
    bit = 21 if dtype == torch.float32 else 3
    options = {"bit_flip": f"(bit={bit})", "fake_quant": "(int8_channel)", "absolute_saturation": "(limit=2)"}.get(
        name, ""
    )
    noise = f"{name}{options} @ op:linear,rms_norm"
    level = 1.0 if ERROR_MODELS[name].strength is None else STRENGTHS.get(name, 0.05)
    apart, gap = distance(model, noise, level)
    rough = 20 if ERROR_MODELS[name].rough else 2  # a spike's products are larger, and so are their last bits
    assert apart <= rough * CLOSE[dtype]
    assert gap <= rough * CLOSE[dtype]
    assert dtype != torch.float32 or moved(model, noise, level) > 10 * CLOSE[dtype]


def test_no_error_model_is_forgotten() -> None:
    assert sorted(name for name, model in ERROR_MODELS.items() if model.replayed_by) == NAMES
    for model in ERROR_MODELS.values():
        assert model.computed_by and bool(model.replayed_by) is not bool(model.not_replayed)
        assert model.computed_by.split(".")[:2] == ["harness", "numerics"], "the two formulas share no code"


def test_a_model_without_a_second_formula_says_why() -> None:
    side = Side(torch.zeros(1, 1, dtype=torch.int32), torch.zeros(1, 1, dtype=torch.int32))
    with pytest.raises(TypeError, match="error model nondeterministic draws anew at every call"):
        perturbed(ERROR_MODELS["nondeterministic"](), torch.ones(1, 4), side, side, 0.05)


@pytest.mark.parametrize(
    ("kind", "attention", "noise"),
    [
        ("qwen2", "eager", "relative_gaussian @ op:qk"),
        ("qwen2", "eager", "relative_gaussian @ op:pv,silu,embedding"),
        ("qwen2", "eager", "relative_gaussian @ op:softmax softmax:renormalised"),
        ("qwen2", "sdpa", "relative_gaussian @ op:sdpa,linear"),
        ("qwen2", "sdpa", "relative_gaussian @ op:linear key:shared"),
        ("qwen2", "sdpa", "relative_gaussian @ op:linear layers:1"),
        ("qwen3", "eager", "relative_gaussian @ profile:matmul"),
        ("qwen3", "sdpa", "relative_gaussian @ scope:all"),
        ("gpt2", "sdpa", "relative_gaussian @ op:linear,layer_norm"),
        ("gpt2", "eager", "relative_gaussian @ op:conv1d,qk,pv,softmax"),
        ("llama", "sdpa", "relative_gaussian @ scope:mlp"),
        ("gemma2", "eager", "relative_gaussian @ op:linear"),
    ],
)
def test_operators_and_architectures(kind: str, attention: str, noise: str) -> None:
    model = model_of(kind, attention)
    apart, gap = distance(model, noise, 0.1)
    assert apart <= 2e-4
    assert gap <= 2e-4
    assert moved(model, noise, 0.1) > 5e-3


@pytest.mark.parametrize("fmt", sorted(FORMATS))
def test_quantized_weights(fmt: str) -> None:
    apart, gap = distance(model_of("qwen2"), "relative_gaussian @ op:linear", 0.05, (f"fake_quant({fmt}) @ at:weight",))
    assert max(apart, gap) <= 2e-4


@pytest.mark.parametrize("rounding", ["toward_zero", "stochastic"])
def test_other_roundings_of_a_conv1d_weight(rounding: str) -> None:
    quantize = f"fake_quant(mxfp4, rounding={rounding}) @ op:linear at:weight"
    apart, gap = distance(model_of("gpt2"), "relative_gaussian @ op:linear", 0.05, (quantize,))
    assert max(apart, gap) <= 2e-4


@pytest.mark.parametrize("fmt", ["mxfp8", "nvfp4", "int8_channel", "fp8_e4m3_tensor"])
def test_quantized_inputs(fmt: str) -> None:
    model = model_of("qwen2")
    apart, _ = distance(model, "relative_gaussian @ op:linear", 0.0, (f"fake_quant({fmt}) @ op:linear at:input",))
    assert apart <= 0.2


def test_the_model_is_left_as_it_was() -> None:
    model = model_of("qwen2", "eager")
    ids = torch.arange(6)[None]
    before = model(ids).logits
    with contextlib.suppress(StopIteration):
        distance(model, "relative_gaussian @ op:linear,qk,pv", 0.1, ("fake_quant(mxfp4) @ at:weight",))
    assert torch.equal(model(ids).logits, before)
    assert model.config._attn_implementation == "eager"
    assert not any("weight" in module.__dict__ for module in model.modules())
