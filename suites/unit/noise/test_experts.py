"""Experts that no site reaches: a plan says so, an evaluation is refused before it loads, a stored run is invalid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from harness.evaluate import prepared as preparing
from harness.evaluate.api import evaluate
from harness.evaluate.planning import CHECKPOINT, Source, plan_report
from harness.evaluate.prepared import prepare
from harness.exceptions import NoiseSpecError
from harness.noise.experts import check_experts, clean_experts
from harness.noise.planner import build_plan
from harness.noise.stacked import in_width, out_width, stacked_modules
from harness.noise.ways.experts import ExpertsMode
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.spec import EvalSpec, parse_noise
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
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A Mixtral and a GraniteMoe of one layer that an evaluation could run."""
    found, tokenizer = {}, build_tokenizer(4096)
    special = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "num_hidden_layers": 1,
        "max_position_embeddings": 4096,
    }
    for kind in ("mixtral", "granitemoe"):
        found[kind] = tmp_path_factory.mktemp(kind)
        config = CONFIG_MAPPING[kind](**{**ARCHITECTURES["llama"], **MIXTURES[kind], **special})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config).save_pretrained(found[kind])
        tokenizer.save_pretrained(found[kind])
    return found


@pytest.mark.parametrize("noise", ["profile:matmul", "scope:linear layers:1"])
def test_noise_on_all_linears_of_a_mixture_that_no_site_reaches_is_refused(noise: str) -> None:
    model, spec = mixture("granitemoe"), parse_noise(f"relative_gaussian @ {noise}")
    plan = build_plan(model, spec)
    layers = {name.split(".")[2] for name in clean_experts(plan)}
    assert layers == ({"1"} if "layers" in noise else {"0", "1"})
    with pytest.raises(NoiseSpecError, match="would stay clean") as refusal:
        check_experts(model, [spec])
    advised = parse_noise(str(refusal.value).partition("leave them out by name: ")[2])
    check_experts(model, [advised])
    assert not clean_experts(build_plan(model, advised))


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
@pytest.mark.parametrize("experts", ["eager", "batched_mm", "grouped_mm"])
def test_stacked_experts_of_the_known_class_are_reached(kind: str, experts: str) -> None:
    model, spec = mixture(kind, experts), parse_noise("relative_gaussian @ profile:matmul")
    plan = build_plan(model, spec)
    check_experts(model, [spec])
    assert not clean_experts(plan) and not plan.uncovered
    inside = [site for site in plan.sites if site.module.endswith("mlp.experts")]
    assert [(site.name, site.columns, site.per_token, site.layer) for site in inside[:2]] == [
        ("model.layers.0.mlp.experts:gate_up_proj", 96 if kind == "mixtral" else 32, 2, 0),
        ("model.layers.0.mlp.experts:down_proj", 32, 2, 0),
    ]
    assert len(inside) == 4
    for path, module in stacked_modules(model).items():
        assert path.endswith("mlp.experts") and in_width(module, "gate_up_proj") == out_width(module, "down_proj") == 32


def test_experts_run_in_a_way_that_hides_their_products_are_refused() -> None:
    model, spec = mixture("mixtral"), parse_noise("relative_gaussian")
    model.config._experts_implementation = "sonicmoe"
    with pytest.raises(NoiseSpecError, match="would stay clean"):
        check_experts(model, [spec])


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


@pytest.mark.parametrize("text", ["weights=mxfp4", "activations=nvfp4"])
def test_quantization_reaches_the_known_class_and_is_refused_elsewhere(text: str) -> None:
    (spec,) = parse_quantization(text)
    known, unknown = mixture("qwen3_moe"), mixture("granitemoe")
    check_experts(known, [spec])
    names = [site.name for site in build_plan(known, spec).sites]
    assert f"model.layers.1.mlp.experts:down_proj:{spec.at}" in names
    with pytest.raises(NoiseSpecError, match="exclude:"):
        check_experts(unknown, [spec])


def test_a_plan_says_it_in_one_line() -> None:
    noises = [
        parse_noise("relative_gaussian(0.05)"),
        parse_noise("relative_gaussian(0.05) @ op:linear exclude:block_sparse_moe"),
    ]
    source = Source(CHECKPOINT, Path("here"), mixture("granitemoe"), "float32", "cpu")
    loud, silent = (plan["warnings"] for plan in plan_report(source, noises, 1)["plans"])
    assert silent == []
    (line,) = loud
    assert "mixture of experts: 4 modules" in line and "exclude:" in line


def test_an_evaluation_is_refused_before_its_weights_are_read(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def watched(named: object, dtype: str, attention: str, device: str) -> object:
        asked.append(device)
        return load(named, dtype, attention, device)

    load: Callable[..., object] = preparing.load_checkpoint
    monkeypatch.setattr(preparing, "load_checkpoint", watched)
    quantized = replace(SPEC, levels=(0.0,), quantization=parse_quantization("weights=mxfp4"))
    for spec in (SPEC, quantized):
        with pytest.raises(NoiseSpecError, match=r"model.layers.0.block_sparse_moe.*exclude:"):
            prepare(folders["granitemoe"], spec)
    assert asked == ["meta", "meta"]
    with pytest.raises(NoiseSpecError, match=r"cannot be told.*exclude:input_linear,output_linear"):
        prepare(folders["granitemoe"], replace(SPEC, levels=(0.0,)))
    named = replace(SPEC, noise=parse_noise("relative_gaussian @ op:linear exclude:block_sparse_moe"))
    clean = prepare(folders["granitemoe"], replace(named, levels=(0.0,)))
    assert clean.loaded
    assert any("block_sparse_moe" in path for path in prepare(folders["granitemoe"], named).coverage.left_out)


@pytest.mark.parametrize("quantized", ["", "weights=mxfp4,activations=mxfp8"])
def test_an_evaluation_with_noise_on_experts_is_certified(
    quantized: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    parts = parse_quantization(quantized) if quantized else ()
    spec = replace(SPEC, quantization=parts, positive_control=False, max_new_tokens=3)
    certificate = evaluate(folders["mixtral"], spec, tmp_path / "run").arm.certificate
    assert certificate.status == CERTIFIED, certificate
    clean, noisy = certificate.levels
    assert noisy.expected_rows == noisy.counted_rows == clean.counted_rows and noisy.changed
    assert all(replay.records == 2 and not replay.problems for replay in certificate.replays)


def test_a_run_whose_experts_were_silently_left_clean_is_invalid(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(self: Any, func: Any, args: Any, kwargs: Any, place: int, weight: Any) -> Any:
        self.rows[weight.field] += len(args[place])
        return func(*args, **kwargs)

    monkeypatch.setattr(ExpertsMode, "_product", dead)
    spec = replace(SPEC, positive_control=False)
    certificate = evaluate(folders["mixtral"], spec, tmp_path / "run").arm.certificate
    assert certificate.status == INVALID_EVIDENCE
    assert "experts:gate_up_proj" in " ".join(certificate.levels[1].problems)
