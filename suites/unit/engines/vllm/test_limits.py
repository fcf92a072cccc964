"""What is refused before vLLM is started; vLLM itself is not needed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import Gemma3Config

from harness.checkpoints.lora import Update
from harness.engines.vllm import limits
from harness.evaluate.prepared import check_carried
from harness.exceptions import CheckpointError, HarnessError, NoiseSpecError
from harness.noise.planner import build_plan
from harness.spec import EvalSpec, parse_noise
from harness.testing import tiny_model

pytestmark = pytest.mark.unit


def spec_of(noise, **more):
    return EvalSpec("arith", noise=parse_noise(noise), engine="vllm", **more)


@pytest.mark.parametrize("operators", ["qk", "pv", "softmax", "rotary", "linear,qk"])
def test_operators_inside_fused_kernels_are_refused_with_the_way_out(operators):
    with pytest.raises(NoiseSpecError, match=r"fused kernels hide them.*--attention eager"):
        limits.check_noise(spec_of(f"relative_gaussian @ op:{operators}"))


@pytest.mark.parametrize(
    "noise", ["relative_gaussian @ op:linear,rms_norm,silu,sdpa", "relative_gaussian @ profile:linear"]
)
def test_layers_of_their_own_are_not(noise):
    limits.check_noise(spec_of(noise))


def test_sites_without_a_layer_of_their_kind_are_refused(toy):
    with pytest.raises(NoiseSpecError, match=r"model\.embed_tokens .*no layer of it can be told"):
        limits.check_plans([build_plan(toy(), parse_noise("relative_gaussian @ op:embedding"))])
    limits.check_plans([build_plan(toy(), parse_noise("fake_quant(mxfp4) @ op:linear at:input"))])
    with pytest.raises(NoiseSpecError, match=r"experts:gate_up_proj in vLLM.*hide their products"):
        limits.check_plans([build_plan(tiny_model("mixtral"), parse_noise("relative_gaussian @ op:linear"))])


def adapter_of(monkeypatch, *updates):
    """An adapter with (rank, scaling) for each module."""
    found = {f"m{n}": Update(torch.zeros(r, 4), torch.zeros(4, r), s) for n, (r, s) in enumerate(updates)}
    monkeypatch.setattr(limits, "read_config", lambda path: {})
    monkeypatch.setattr(limits, "read_updates", lambda path, config: found)
    return Path("adapter")


def test_vllm_makes_room_for_the_largest_rank_of_an_adapter(monkeypatch):
    assert limits.check_adapter(adapter_of(monkeypatch, (4, 2.0), (9, 2.0))) == 16


@pytest.mark.parametrize("updates", [((513, 1.0),), ((4, 1.0), (4, 2.0))])
def test_adapters_that_vllm_would_run_otherwise_are_refused(monkeypatch, updates):
    with pytest.raises(CheckpointError, match=r"one scaling for all modules, .* use --adapter merged"):
        limits.check_adapter(adapter_of(monkeypatch, *updates))


def test_a_quantized_checkpoint_is_refused():
    config = SimpleNamespace(quantization_config={"quant_method": "awq"}, get_text_config=lambda: None)
    with pytest.raises(CheckpointError, match="quantized already"):
        limits.check_model(Path("folder"), config)


def test_a_multimodal_checkpoint_is_refused():
    with pytest.raises(CheckpointError, match="it is multimodal"):
        limits.check_model(Path("folder"), Gemma3Config())


def test_head_sizes_that_vllm_lacks_are_refused(monkeypatch):
    monkeypatch.setattr(limits, "_head_sizes", lambda: (32, 64))
    text = SimpleNamespace(hidden_size=64, num_attention_heads=4)
    config = SimpleNamespace(get_text_config=lambda: text)
    with pytest.raises(CheckpointError, match=r"head size 16; .*has 32, 64; use --engine transformers"):
        limits.check_model(Path("folder"), config)
    text.head_dim = 32
    limits.check_model(Path("folder"), config)


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_a_level_that_the_dtype_cannot_carry_is_refused(engine):
    given = {"noise": parse_noise("relative_gaussian @ op:linear"), "engine": engine}
    for dtype, level in (("bfloat16", 0.001), ("float16", 1e-4)):
        with pytest.raises(HarnessError, match=f"{dtype}; it cannot carry a relative error"):
            check_carried(EvalSpec("arith", dtype=dtype, levels=(0.0, level), **given))
    check_carried(EvalSpec("arith", dtype="float32", levels=(0.0, 1e-6), **given))
    check_carried(EvalSpec("arith", dtype="bfloat16", levels=(0.0, 0.01), **given))


@pytest.mark.parametrize(
    ("forced", "longest", "words"),
    [
        (True, 64, None),
        (True, 65, r"a text of 64 tokens in vLLM.*the context holds 64"),
        (False, 65, None),
    ],
)
def test_scored_texts_need_room_for_a_token_more(forced, longest, words):
    prompt = SimpleNamespace(forced=(1,) if forced else ())
    evaluation = SimpleNamespace(
        probed=(prompt,),
        longest=longest,
        checkpoint=SimpleNamespace(model=tiny_model(max_position_embeddings=64)),
    )
    if words is None:
        limits.check_scored(evaluation)
        return
    with pytest.raises(HarnessError, match=words):
        limits.check_scored(evaluation)
