"""Noise and quantization of an actor under an adapter: placed and drawn as in the rollout, with a gradient or none."""

from __future__ import annotations

import pytest
import torch

from harness.engines.sessions import open_sessions
from harness.exceptions import HarnessError
from harness.noise.planner import build_plan
from harness.spec import parse_noise
from harness.testing import tiny_model
from harness.training.book import load_recipe
from harness.training.injection import OLD_LOG_PROB, TRAINING_FORWARD
from harness.training.verl_plugin.actor_noise import ActorNoise
from harness.training.verl_plugin.gradients import least
from harness.training.verl_plugin.placed import placed
from harness.training.verl_plugin.plans import PassPlan

pytestmark = pytest.mark.unit
IDS = torch.tensor([[5, 6, 7, 1, 2], [9, 8, 7, 6, 3]])
ITEMS = ["a", "b"]


class Adapted(torch.nn.Module):
    """A linear under an adapter as peft writes it; the second factor starts at zero."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base
        self.lora_A = torch.nn.Linear(base.in_features, 2, bias=False)
        self.lora_B = torch.nn.Linear(2, base.out_features, bias=False)
        torch.nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class Wrapped(torch.nn.Module):
    """A model as peft wraps it: ``base_model.model``."""

    def __init__(self, model):
        super().__init__()
        self.base_model = torch.nn.Module()
        self.base_model.model = model

    def forward(self, **kwargs):
        return self.base_model.model(**kwargs)


def adapted(seed=3):
    model = tiny_model(seed=seed)
    model.requires_grad_(False)
    for layer in model.model.layers:
        for block, names in ((layer.self_attn, ("q_proj", "v_proj")), (layer.mlp, ("down_proj",))):
            for name in names:
                setattr(block, name, Adapted(getattr(block, name)))
    return Wrapped(model)


def recipe_of(**quantization):
    overrides = {"quantization": {"weights": "mxfp4", **quantization}} if quantization else {}
    return load_recipe("E7a-lora", "tiny", overrides)


def logits(model, plan, quantizers=()):
    with torch.no_grad(), open_sessions(model, plan, quantizers) as sessions, sessions.batch(ITEMS, [7, 7], 0.05):
        return model(input_ids=IDS).logits, {count.site for count in sessions.drain(0.05) if count.changed}


@pytest.mark.parametrize("spec", ["relative_gaussian(0.05) @ op:linear", "fake_quant(mxfp4) @ op:linear at:weight"])
def test_an_adapter_that_adds_nothing_changes_neither_draws_nor_names(spec):
    plan = build_plan(tiny_model(seed=3), parse_noise(spec))
    plain, names = logits(tiny_model(seed=3), plan)
    model = adapted()
    under, under_names = logits(model, placed(plan, model))
    assert torch.equal(plain, under) and names == under_names == {site.name for site in plan.sites}


def test_a_site_that_the_model_lacks_is_named():
    plan = build_plan(tiny_model(seed=3), parse_noise("relative_gaussian(0.05) @ op:linear"))
    model = adapted()
    del model.base_model.model.model.layers[1]
    with pytest.raises(HarnessError, match=r"site model\.layers\.1\.\S+; Wrapped has no such module"):
        placed(plan, model)


def flow_of(model, outline, recipe):
    """What flowed back through the quantized modules of ``model`` in one training pass."""
    quantizers = tuple(build_plan(outline, spec) for spec in recipe.quantization.specs())
    silent = build_plan(outline, parse_noise("relative_gaussian(0.01) @ op:linear"))
    noise = ActorNoise(model, recipe, {TRAINING_FORWARD: PassPlan(silent, quantizers, 0.0)})
    with noise.during(TRAINING_FORWARD):
        with noise.rows(ITEMS):
            found = model(input_ids=IDS).logits
        found.square().sum().backward()
    return noise.report()["passes"][TRAINING_FORWARD]["gradients"]


def trained(recipe):
    """(flow of the gradients, whether every adapter learns) of one training pass."""
    model = adapted()
    flow = flow_of(model, tiny_model(seed=3), recipe)
    adapters = [each for name, each in model.named_parameters() if "lora_B" in name]
    return flow, all(each.grad is not None and each.grad.abs().sum() > 0 for each in adapters)


@pytest.mark.parametrize("point", ["input", "output"])
@pytest.mark.parametrize("straight", [True, False])
def test_a_gradient_flows_through_every_quantized_module_unless_it_is_cut(straight, point):
    recipe = recipe_of(activations="mxfp4", straight_through=straight, point=point)
    flow, learns = trained(recipe)
    modules, smallest = least([flow])
    assert learns == straight and modules > 6
    assert (smallest > 0) == straight


def test_without_an_adapter_weights_are_among_what_gets_a_gradient():
    model = tiny_model(seed=3)
    flow = flow_of(model, model, recipe_of(activations="mxfp4"))
    assert {part for parts in flow.values() for part in parts} == {"input", "weight"}
    assert all(value > 0 for parts in flow.values() for value in parts.values())


def test_gradients_of_shards_are_added_before_the_least_is_taken():
    flows = [{"a": {"input": 0.0}, "b": {"input": 4.0}}, {"a": {"input": 9.0}, "b": {"input": 0.0}}]
    assert least(flows) == (2, 2.0)
    assert least([{}, {"a": {}}]) is None


def test_passes_without_training_measure_no_gradient():
    recipe = recipe_of(activations="mxfp4")
    model, outline = adapted(), tiny_model(seed=3)
    quantizers = tuple(build_plan(outline, spec) for spec in recipe.quantization.specs())
    silent = build_plan(outline, parse_noise("relative_gaussian(0.01) @ op:linear"))
    noise = ActorNoise(model, recipe, {OLD_LOG_PROB: PassPlan(silent, quantizers, 0.0)})
    with torch.no_grad(), noise.during(OLD_LOG_PROB), noise.rows(ITEMS):
        model(input_ids=IDS)
    assert noise.report()["passes"][OLD_LOG_PROB]["gradients"] == {}
