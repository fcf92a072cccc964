"""Quantizing one layer of a loaded model, the divergence, and what is counted of activations."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from harness.diagnostics.activations import prompt_batches, scan_activations
from harness.diagnostics.effect import Effects, divergence
from harness.diagnostics.gaussian import Yardstick
from harness.diagnostics.scan_result import OUTSIDE
from harness.diagnostics.scan_spec import ScanSpec, TaskChoice, parse_recipes
from harness.diagnostics.scanned_model import load, quantized_places, quantized_weight
from harness.diagnostics.weight_roles import find_places
from harness.diagnostics.weights import open_source
from harness.numerics import fake_quantize
from harness.numerics.quant_measure import measure_quantization
from suites.unit.diagnostics.scan_models import build

pytestmark = pytest.mark.long

MXFP4 = parse_recipes("mxfp4", "floor")[0]
TASK = TaskChoice("arith", items=5, max_new_tokens=6)


def test_divergence_is_that_of_the_distributions() -> None:
    p, q = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]), torch.tensor([[0.25, 0.25, 0.5], [0.2, 0.3, 0.5]])
    found = divergence(p.log() + 3, q.log() - 7)
    assert found[0] == pytest.approx(0.5 * math.log(2) + 0.25 * math.log(0.5), rel=1e-6)
    assert found[1] == pytest.approx(0, abs=1e-12)
    never = torch.tensor([[0.0, 0.0, -math.inf]])
    assert divergence(never, never).item() == 0


@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "mixtral", "gpt_oss"])
def test_weights_are_quantized_along_the_contraction_dimension_and_given_back(kind: str) -> None:
    model = build(kind)
    places = [place for place in find_places(model).values() if place.reason is None and place.group.endswith(".1")]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    kept = dict(model.named_parameters())
    with quantized_places(model, places, MXFP4, weights=True, activations=False):
        for name, parameter in model.named_parameters():
            place = next((place for place in places if place.name == name), None)
            if place is None:
                assert torch.equal(parameter, before[name])
                continue
            turned = before[name].transpose(-1, -2) if place.transposed else before[name]
            expected = fake_quantize(turned.contiguous(), "mxfp4")
            assert torch.equal(parameter, expected.transpose(-1, -2) if place.transposed else expected)
            assert not torch.equal(parameter, before[name])
    assert all(kept[name] is parameter for name, parameter in model.named_parameters())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_the_model_is_given_back_after_an_error() -> None:
    model = build("qwen2")
    places = [place for place in find_places(model).values() if place.reason is None]
    kept = dict(model.named_parameters())
    with pytest.raises(RuntimeError, match="stop"), quantized_places(model, places, MXFP4, True, True):
        raise RuntimeError("stop")
    assert all(kept[name] is parameter for name, parameter in model.named_parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_tensor_scales_of_experts_are_their_own() -> None:
    nvfp4 = parse_recipes("nvfp4", "floor")[0]
    experts = torch.randn(2, 8, 32) * torch.tensor([1.0, 1e-3]).view(2, 1, 1)
    found = quantized_weight(experts, nvfp4, transposed=False)
    assert torch.equal(found[1], fake_quantize(experts[1], "nvfp4"))


def test_batches_hold_prompts_of_one_length() -> None:
    prompts = [(1, 2), (3,), (4, 5), (6, 7)]
    assert prompt_batches(prompts, 2) == [[(1, 2), (4, 5)], [(6, 7)], [(3,)]]


def spec(path: Path, **changes: object) -> ScanSpec:
    settings = {"what": "both", "task": TASK, "effect": True, "device": "cpu", "batch_size": 3}
    return ScanSpec(path, (MXFP4,), **{**settings, **changes})  # type: ignore[arg-type]


def test_activations_are_every_real_token_whatever_the_batch(tiny: Path) -> None:
    loaded = load(spec(tiny), open_source(tiny))
    recipes = parse_recipes("mxfp4,nvfp4", "floor")
    tokens = sum(len(prompt) for prompt in loaded.prepared.prompts.values())
    found = {size: scan_activations(loaded, recipes, Yardstick(), size)[0] for size in (1, 4)}
    for one, other in zip(found[1], found[4], strict=True):
        assert one.shape[0] == other.shape[0] == tokens
        assert one.error.sqnr_db == pytest.approx(other.error.sqnr_db, abs=0.01)
    inputs = []
    module = loaded.model.get_submodule(found[1][0].module)
    handle = module.register_forward_pre_hook(lambda module, args: inputs.append(args[0][0]))
    with torch.no_grad():
        for prompt in loaded.prepared.prompts.values():
            loaded.model(torch.tensor([prompt]))
    handle.remove()
    for scan, recipe in zip(found[1][:2], recipes, strict=True):
        expected = measure_quantization(torch.cat(inputs), recipe, per_row=True)
        assert scan.error.sqnr_db == pytest.approx(expected.sqnr_db, abs=0.01)
        assert scan.error.elements == expected.elements


def test_a_tied_head_is_quantized_and_the_embedding_is_not(tiny: Path) -> None:
    loaded = load(spec(tiny, include=("lm_head",)), open_source(tiny))
    model = loaded.model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert loaded.groups == ("model.layers.0", OUTSIDE)
    places = [place for place in loaded.chosen if place.group == OUTSIDE]
    with quantized_places(model, places, MXFP4, weights=True, activations=False):
        assert torch.equal(model.lm_head.weight, fake_quantize(model.model.embed_tokens.weight, "mxfp4"))
        assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    measured = scan_activations(loaded, [MXFP4], Yardstick(), 2)[0]
    assert measured[-1].module == "lm_head" and measured[-1].shape[0] == 5, "a head sees the last token of a prompt"


def test_the_effect_of_a_layer(tiny: Path) -> None:
    loaded = load(spec(tiny), open_source(tiny))
    assert loaded.groups == ("model.layers.0",)
    effects = Effects(loaded, spec(tiny))
    again = Effects(loaded, spec(tiny))
    again._keeping = False  # clean logits are then computed again
    told: list[int] = []
    effect = effects.measure("model.layers.0", MXFP4, told.append)
    assert effect == again.measure("model.layers.0", MXFP4)
    assert told == [3, 2] and effect.items == 5
    assert effect.positions == sum(answer.completion.steps for answer in effects.clean)
    kl = effect.kl
    assert 0 < kl["low"] <= kl["estimate"] <= kl["high"]
    assert effect.difference["low"] < 0 < effect.difference["high"]
    fine = effects.measure("model.layers.0", parse_recipes("bf16", "floor")[0])
    assert 0 < fine.kl["estimate"] < kl["estimate"] / 10


def test_a_layer_that_quantization_leaves_alone_has_no_effect(tiny: Path) -> None:
    loaded = load(spec(tiny), open_source(tiny))
    with torch.no_grad():
        for place in loaded.chosen:
            weight = loaded.model.get_submodule(place.module).weight
            weight.copy_(fake_quantize(weight, "mxfp4"))
    effect = Effects(loaded, spec(tiny, what="weights")).measure("model.layers.0", MXFP4)
    assert effect.kl["estimate"] == 0 and effect.changed_answers == 0
    assert (effect.lost, effect.gained) == (0, 0)


def test_outputs_that_are_no_number_are_said_and_first(tiny: Path) -> None:
    loaded = load(spec(tiny, what="weights"), open_source(tiny))
    effects = Effects(loaded, spec(tiny, what="weights"))
    with torch.no_grad():
        loaded.model.get_submodule("model.layers.0.mlp.up_proj").weight[0, 0] = math.nan
    assert effects.measure("model.layers.0", MXFP4).kl["estimate"] is None
