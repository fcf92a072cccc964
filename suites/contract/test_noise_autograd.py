"""Backward noise, perturbed weights and recomputation: what gradients are under noise, found out without formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from harness.exceptions import EvidenceError, NoiseSpecError
from harness.noise import NoiseSession, noisy
from harness.record import BACKWARD, RECOMPUTE
from suites.contract import noise_gradient_laws as gradient_laws
from suites.contract.noise_models import WAYS, batch, build, loss_of, noisy_run, passes, plan_of, same, same_bits

pytestmark = pytest.mark.contract
BOTH = "relative_gaussian(0.1) @ op:linear when:both"


@pytest.mark.parametrize("way", ["auto", "functions"])
def test_gradients_carry_the_requested_error(way):
    gradient_laws.gradients_carry_the_error(way=way)


@pytest.mark.parametrize("way", WAYS)
def test_no_gradient_is_dropped(way):
    gradient_laws.drops_no_gradient(way)


def test_perturbed_weights_pass_straight_through():
    gradient_laws.weights_pass_straight_through()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_two_forwards_before_one_backward(way, reentrant):
    gradient_laws.recomputes_its_own_forward(reentrant, way)


def test_checkpoints_by_hand():
    gradient_laws.recomputes_by_hand()


@pytest.mark.parametrize("reentrant", [False, True])
def test_bare_calls_are_never_recomputed_with_other_draws(reentrant):
    start = torch.randn(4, 4, requires_grad=True)
    with pytest.raises(NoiseSpecError, match="checkpoint"), noisy(None, "relative_gaussian(0.1) @ op:matmul when:both"):
        checkpoint(lambda x: torch.sin(x @ x) @ x, start, use_reentrant=reentrant).sum().backward()


def test_backward_after_the_block_raises():
    model = build()
    for spec, refused in ((BOTH, True), ("relative_gaussian(0.1) @ op:linear", False)):
        with noisy(model, spec):
            loss = loss_of(model(**batch(), use_cache=False).logits)
        if refused:
            with pytest.raises(EvidenceError, match="closed"):
                loss.backward()
        else:
            loss.backward()


def test_recomputation_after_the_block_is_not_silently_clean():
    for reentrant in (False, True):
        model = build().train()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        with noisy(model, "relative_gaussian(0.1) @ op:linear"):
            loss = loss_of(model(**batch(), use_cache=False).logits)
        with pytest.raises(EvidenceError, match="closed"):
            loss.backward()


def test_backward_twice_draws_the_same_noise_and_counts_it_twice():
    model = build()
    with noisy(model, BOTH) as noise:
        loss = loss_of(model(**batch(), use_cache=False).logits)
        loss.backward(retain_graph=True)
        once = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        loss.backward()
        noise.require(direction=BACKWARD, calls=60)
    for name, parameter in model.named_parameters():
        assert same_bits(parameter.grad, once[name]), name


def test_forward_noise_leaves_the_gradient_function_alone():
    """Forward noise alone: the gradient of the last linear's weight is exactly g^T x of the noisy forward."""
    model = build()
    seen = {}
    with noisy(model, "relative_gaussian(0.1) @ op:linear"):
        hook = model.lm_head.register_forward_pre_hook(lambda module, args: seen.update(x=args[0].detach()))
        logits = model(**batch(), use_cache=False).logits
        logits.retain_grad()
        loss_of(logits).backward()
        hook.remove()
    wanted = logits.grad.flatten(0, 1).t() @ seen["x"].flatten(0, 1)
    assert torch.allclose(model.lm_head.weight.grad, wanted, rtol=1e-5, atol=1e-5)


def test_accumulated_gradients_are_the_sum_of_their_micro_batches():
    model, plan = build(), plan_of("qwen2", "op:linear when:both", "auto")
    given = batch(padded=False)
    parts = [{"input_ids": given["input_ids"][row : row + 1]} for row in range(3)]
    separate = []
    for number, part in enumerate(parts):
        with NoiseSession(model, plan) as session, session.batch(("a",), (0,), 0.1), session.step(0, number):
            separate.append(passes(model, None, part))
    model.zero_grad(set_to_none=True)
    with NoiseSession(model, plan) as session:
        for number, part in enumerate(parts):
            with session.batch(("a",), (0,), 0.1), session.step(0, number):
                loss_of(model(**part, use_cache=False).logits).backward()
    for name, parameter in model.named_parameters():
        wanted = sum(run.gradients[name] for run in separate[1:]) + separate[0].gradients[name]
        assert torch.allclose(parameter.grad, wanted, rtol=1e-4, atol=1e-5), name


def test_frozen_parts_are_neither_perturbed_nor_counted_in_backward():
    model = build()
    for parameter in model.model.layers[0].parameters():
        parameter.requires_grad_(False)
    model.model.embed_tokens.weight.requires_grad_(False)
    clean = passes(model)
    run = noisy_run(model, plan_of("qwen2", "op:linear when:both", "auto"))
    assert run.gradients.keys() == clean.gradients.keys()
    assert {count.layer for count in run.counts.values() if count.direction == BACKWARD} == {1, None}
    first = {count.site.rpartition(".")[2] for count in run.counts.values() if count.operand == "input"}
    assert first == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"}


def test_an_activation_that_writes_its_input():
    class Small(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.linear, self.relu = nn.Linear(4, 4), nn.ReLU(inplace=in_place)

        def forward(self, input_ids, use_cache=None):
            return self.relu(self.linear(nn.functional.one_hot(input_ids, 4).float()))

    torch.manual_seed(0)
    results = []
    first, second = Small(False), Small(True)
    second.load_state_dict(first.state_dict())
    for model in (first, second):
        with noisy(model, "relative_gaussian(0.1) @ op:linear,relu when:both") as noise:
            model(input_ids=torch.tensor([[0, 1, 2, 3]])).square().sum().backward()
            noise.require(direction=BACKWARD, sites=2)
        results.append(model.linear.weight.grad)
    assert same_bits(*results)
    assert second.relu.inplace is True


def test_recomputed_calls_are_counted_apart():
    model = build().train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    with noisy(model, BOTH) as noise:
        passes(model)
        noise.require(direction="forward", calls=15)
        noise.require(direction=RECOMPUTE, calls=14)
        noise.require(direction=BACKWARD, calls=30)


def test_inference_mode_and_no_grad_give_the_same_bits():
    model, plan = build(), plan_of("qwen2", "profile:all-ops when:both", "auto")
    found = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with NoiseSession(model, plan) as session, session.batch(("a", "b", "c"), (0, 0, 0), 0.1), mode():
            found.append(model(**batch(), use_cache=False).logits.detach().clone())
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])


def test_a_compiled_kernel_changes_no_bit():
    model, plan = build(), plan_of("qwen2", "op:linear,qk when:both", "auto")
    runs = []
    for compiled in (False, None):
        with NoiseSession(model, plan, compiled) as session, session.batch(("a", "b", "c"), (0, 0, 0), 0.1):
            runs.append(passes(model))
    assert same(*runs)
