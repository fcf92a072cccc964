"""Experts that no site reaches: a plan says so, an evaluation is refused before it loads, a stored run is invalid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from harness.evaluate import prepared as preparing
from harness.evaluate.planning import CHECKPOINT, Source, plan_report
from harness.evaluate.prepared import prepare
from harness.exceptions import NoiseSpecError
from harness.noise.experts import check_experts, clean_experts
from harness.noise.planner import build_plan
from harness.spec import EvalSpec, parse_noise
from harness.spec.experts import unreached
from harness.spec.quantization import parse_quantization
from harness.testing.model import ARCHITECTURES, tiny_model
from harness.testing.tokenizer import build_tokenizer

pytestmark = pytest.mark.unit
MIXTURES = {
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
}
SPEC = EvalSpec("arith", items=2, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=2)


def mixture(kind: str, experts: str = "grouped_mm") -> torch.nn.Module:
    config = CONFIG_MAPPING[kind](**ARCHITECTURES["llama"], **MIXTURES[kind])
    if kind != "granitemoe":  # it has one implementation only
        config._experts_implementation = experts
    model: torch.nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral of one layer that an evaluation could run."""
    path, tokenizer = tmp_path_factory.mktemp("mixtral"), build_tokenizer(4096)
    special = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    tiny_model("mixtral", num_hidden_layers=1, max_position_embeddings=4096, **special).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("noise", ["profile:matmul", "scope:linear layers:1"])
def test_noise_on_all_linears_of_a_mixture_is_refused(kind: str, noise: str) -> None:
    model, spec = mixture(kind), parse_noise(f"relative_gaussian @ {noise}")
    plan = build_plan(model, spec)
    layers = {name.split(".")[2] for name in clean_experts(plan)}
    assert layers == ({"1"} if "layers" in noise else {"0", "1"})
    with pytest.raises(NoiseSpecError, match="would stay clean") as refusal:
        check_experts(model, [spec])
    advised = parse_noise(str(refusal.value).partition("leave them out by name: ")[2])
    check_experts(model, [advised])
    assert not clean_experts(build_plan(model, advised))


@pytest.mark.parametrize(
    "noise", ["op:rms_norm", "op:linear include:self_attn", "module:model.layers.*.self_attn.*_proj"]
)
def test_a_specification_that_claims_nothing_of_experts_is_taken(noise: str) -> None:
    model, spec = mixture("mixtral"), parse_noise(f"relative_gaussian @ {noise}")
    plan = build_plan(model, spec)
    assert plan.sites and not clean_experts(plan)
    check_experts(model, [spec])


def test_a_dense_model_has_no_experts() -> None:
    plan = build_plan(tiny_model(), parse_noise("relative_gaussian"))
    assert plan.experts == clean_experts(plan) == ()


def test_calls_of_eager_experts_belong_to_no_item_and_are_refused() -> None:
    """The function mode reaches them, for gradients and bare runs; an evaluation would stop in its first batch."""
    model, spec = mixture("mixtral", "eager"), parse_noise("relative_gaussian")
    plan = build_plan(model, spec)
    assert clean_experts(plan) and not unreached(plan.uncovered, spec)
    with pytest.raises(NoiseSpecError, match=r"layers.0.mlp.experts.*exclude:experts"):
        check_experts(model, [spec])


@pytest.mark.parametrize("text", ["weights=mxfp4", "activations=nvfp4"])
@pytest.mark.parametrize("experts", ["eager", "grouped_mm"])
def test_quantization_of_all_linears_of_a_mixture_is_refused(text: str, experts: str) -> None:
    (spec,) = parse_quantization(text)
    model = mixture("qwen3_moe", experts)
    assert clean_experts(build_plan(model, spec))
    with pytest.raises(NoiseSpecError, match="exclude:experts"):
        check_experts(model, [spec])
    named = replace(spec, exclude=("experts",))
    check_experts(model, [named])
    assert not clean_experts(build_plan(model, named))


def test_a_plan_says_it_in_one_line() -> None:
    noises = [
        parse_noise("relative_gaussian(0.05)"),
        parse_noise("relative_gaussian(0.05) @ op:linear exclude:experts"),
    ]
    source = Source(CHECKPOINT, Path("here"), tiny_model("mixtral"), "float32", "cpu")
    loud, silent = (plan["warnings"] for plan in plan_report(source, noises, 1)["plans"])
    assert silent == []
    (line,) = loud
    assert "2 modules (model.layers.0.mlp.experts first)" in line and line.endswith("exclude:experts")


def test_an_evaluation_is_refused_before_its_weights_are_read(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def watched(named: object, dtype: str, attention: str, device: str) -> object:
        asked.append(device)
        return load(named, dtype, attention, device)

    load: Callable[..., object] = preparing.load_checkpoint
    monkeypatch.setattr(preparing, "load_checkpoint", watched)
    quantized = replace(SPEC, levels=(0.0,), quantization=parse_quantization("weights=mxfp4"))
    for spec in (SPEC, quantized):
        with pytest.raises(NoiseSpecError, match=r"model.layers.0.mlp.experts.*exclude:experts"):
            prepare(checkpoint, spec)
    assert asked == ["meta", "meta"]
    clean = prepare(checkpoint, replace(SPEC, levels=(0.0,)))
    assert clean.loaded
    named = replace(SPEC, noise=parse_noise("relative_gaussian @ op:linear exclude:experts"))
    assert "model.layers.0.mlp.experts" in prepare(checkpoint, named).coverage.left_out
