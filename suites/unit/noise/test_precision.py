"""Quantized places: what stays in high precision unless it is named, how blocks lie, how specifications compose."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from harness.exceptions import NoiseSpecError
from harness.noise import noisy
from harness.noise.meta import meta_model
from harness.noise.planner import build_plan
from harness.noise.precision import BY_DEFAULT
from harness.noise.selection import select_modules
from harness.numerics import fake_quantize
from harness.numerics.quantizer import quantized
from harness.spec import parse_noise
from harness.spec.formats import Recipe
from harness.testing import tiny_config, tiny_model

pytestmark = pytest.mark.unit
IDS = torch.tensor([[5, 9, 11, 3, 7], [2, 4, 6, 8, 10]])
SMALL = {"vocab_size": 48, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}


def qwen(tied: bool = False) -> PreTrainedModel:
    return tiny_model(attention="sdpa", **SMALL, tie_word_embeddings=tied)


def selection(model, places, fmt="mxfp4"):
    return select_modules(model, parse_noise(f"fake_quant({fmt}) @ {places}"))


@pytest.mark.parametrize("point", ["weight", "input"])
def test_heads_and_embeddings_are_left_out_and_listed(point):
    found = selection(meta_model(tiny_config(**SMALL)), f"op:linear at:{point}")
    assert len(found.modules) == 2 * 7
    assert found.excluded == {
        "lm_head": f"output head: {BY_DEFAULT}",
        "model.embed_tokens": f"embedding: {BY_DEFAULT}",
    }


def test_results_and_other_error_models_keep_their_head():
    model = meta_model(tiny_config(**SMALL))
    assert "lm_head" in selection(model, "op:linear").modules
    assert "lm_head" in select_modules(model, parse_noise("relative_gaussian(0.1) @ op:linear at:weight")).modules


@pytest.mark.parametrize(
    ("places", "modules"),
    [
        ("include:lm_head at:weight", ("lm_head",)),
        ("module:lm_head,up_proj at:weight", ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj", "lm_head")),
        ("op:embedding at:weight", ("model.embed_tokens",)),
    ],
)
def test_what_is_named_is_quantized(places, modules):
    model = meta_model(tiny_config(**SMALL, tie_word_embeddings=False))
    assert selection(model, places).modules == modules


def test_a_wide_pattern_does_not_ask_for_the_head():
    model = meta_model(tiny_config(**SMALL))
    assert "lm_head" not in selection(model, "class:Linear at:weight").modules
    assert "lm_head" not in selection(model, "module:* exclude:*norm,mlp,self_attn,layers at:weight include:*").modules


def test_where_only_the_head_is_left_the_way_out_names_it():
    model = meta_model(tiny_config(**SMALL))
    with pytest.raises(NoiseSpecError, match=r"name it: include:lm_head"):
        selection(model, "module:lm_hea? at:weight")


def test_routers_stay():
    model = meta_model(tiny_config("mixtral", **SMALL, num_local_experts=4))
    found = selection(model, "op:linear at:weight")
    assert not any("gate" in path.split(".") for path in found.modules)
    assert any("router" in why for path, why in found.excluded.items() if "gate" in path)


def test_adapters_stay_and_what_they_wrap_is_quantized():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(qwen(), peft.LoraConfig(r=4, target_modules=["q_proj"]))
    found = selection(model, "op:linear at:weight")
    asked = [path for path in found.modules if "q_proj" in path]
    assert [path.rpartition(".")[2] for path in asked] == ["base_layer"] * 2
    adapters = {path: why for path, why in found.excluded.items() if "lora_" in path}
    assert len(adapters) >= 4 and all(BY_DEFAULT in why for why in adapters.values())
    assert any("base_layer" in why for path, why in found.excluded.items() if path.endswith("q_proj"))
    with torch.no_grad(), noisy(model, "fake_quant(mxfp4) @ op:linear at:weight layers:0") as block:
        model(input_ids=IDS)
        block.require(sites=7)


def test_quantized_weights_are_those_of_a_quantized_checkpoint():
    model, copy = qwen(), qwen()
    spec = parse_noise("fake_quant(nvfp4) @ op:linear at:weight")
    for site in build_plan(copy, spec).sites:
        weight = copy.get_submodule(site.module).weight
        weight.data = fake_quantize(weight.data, "nvfp4")
    with torch.no_grad():
        with noisy(model, [spec]):
            seen = model(input_ids=IDS).logits
        assert torch.equal(seen, copy(input_ids=IDS).logits)
        assert not torch.equal(seen, model(input_ids=IDS).logits)


def test_blocks_of_a_transposed_weight_run_along_the_contraction_dimension():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_embd=64, n_layer=1, n_head=2, n_positions=32)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(torch.logspace(-2, 2, parameter.shape[-1]))  # so that the direction shows
    seen = {}
    conv = model.transformer.h[0].mlp.c_fc

    def keep(module, args):
        seen["weight"] = module.weight.clone()

    with torch.no_grad(), noisy(model, "fake_quant(mxfp4) @ op:conv1d at:weight"):
        handle = conv.register_forward_pre_hook(keep)
        model(input_ids=IDS)
        handle.remove()
    assert torch.equal(seen["weight"], fake_quantize(conv.weight.data.t(), "mxfp4").t())
    assert not torch.equal(seen["weight"], fake_quantize(conv.weight.data, "mxfp4"))


@pytest.mark.parametrize("fmt", ["mxfp4_32x32", "nvfp4_16x16", "fp8_e4m3_tensor", "nvfp4", "int8_channel"])
def test_a_weight_is_quantized_as_a_whole(fmt):
    """In spite of the chunks that noise is drawn in."""
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.add_module("wide", torch.nn.Linear(300, 500, bias=False))
    model = _Wrapped(model)
    with torch.no_grad(), noisy(model, f"fake_quant({fmt}) @ op:linear at:weight", compiled=False):
        after = model(input_ids=torch.eye(300)[None])
    assert torch.equal(after[0], fake_quantize(model.inner.wide.weight.data, fmt).t())


class _Wrapped(torch.nn.Module):
    """Gives its input as embeddings to what it wraps."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        size = self.inner.wide.in_features
        rows = input_ids if input_ids.is_floating_point() else torch.ones(*input_ids.shape, size)
        return self.inner.wide(rows)


def test_activations_have_a_scale_of_their_own_per_token():
    """A scale over the batch would make a row depend on its neighbours."""
    model = qwen()
    seen = []
    with torch.no_grad(), noisy(model, "fake_quant(nvfp4) @ module:up_proj at:input layers:0"):
        handle = model.model.layers[0].mlp.up_proj.register_forward_hook(lambda *given: seen.append(given[1][0]))
        model(input_ids=IDS)
        model(input_ids=IDS[1:])
        handle.remove()
    assert torch.equal(seen[0][1:], seen[1])
    row = seen[0][0, :1].clone()
    recipe = Recipe.of("nvfp4")
    assert torch.equal(row.isfinite(), torch.ones_like(row, dtype=torch.bool))
    assert len(quantized(row, recipe, per_row=True).unique()) <= 2 * 7 * 4 + 1  # four blocks of 16, 15 values each


@pytest.mark.parametrize("place", ["op:linear at:input", "op:linear"])
def test_tiles_over_rows_of_a_batch_are_refused(place):
    with pytest.raises(NoiseSpecError, match="which rows share a tile depends on the batch"):
        build_plan(qwen(), parse_noise(f"fake_quant(mxfp4_32x32) @ {place}"))


def test_quantization_and_noise_compose_and_are_counted_apart():
    model = qwen()
    both = "fake_quant(mxfp4) @ op:linear at:weight; fake_quant(mxfp8) @ op:linear at:input; "
    with torch.no_grad(), noisy(model, both + "relative_gaussian(0.05) @ op:linear") as block:
        model(input_ids=IDS)
        counts = {count.site: count for count in block.counts()}
    assert len(counts) == 14 + 14 + 15
    weight, entering, result = (counts[f"model.layers.1.mlp.up_proj{part}"] for part in (":weight", ":input", ""))
    assert weight.elements == 64 * 96 and entering.elements == IDS.numel() * 64 and result.elements == IDS.numel() * 96
    assert 0.10 < (weight.error / weight.signal) ** 0.5 < 0.13  # 18.8 dB
    assert 0.02 < (entering.error / entering.signal) ** 0.5 < 0.04  # 30.6 dB
    assert 0.045 < (result.error / result.signal) ** 0.5 < 0.055
