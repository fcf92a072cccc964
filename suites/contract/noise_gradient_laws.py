"""The laws of backward noise, of perturbed weights and of recomputation, each stated once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.exceptions import NoiseSpecError
from harness.noise import NoiseSession, build_plan, noisy
from harness.record import BACKWARD, FORWARD, RECOMPUTE
from harness.spec import parse_noise
from suites.contract.noise_laws import bound
from suites.contract.noise_models import (
    ITEMS,
    VOCAB,
    WAYS,
    Run,
    batch,
    build,
    loss_of,
    noisy_run,
    passes,
    plan_of,
    same,
    same_bits,
    same_gradients,
)
from suites.contract.noise_toys import ByHand

_IN_LAYER = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
LINEARS = (*(f"model.layers.{layer}.{name}" for layer in range(2) for name in _IN_LAYER), "lm_head")


def booked_where_it_was(way: str = "hooks") -> None:
    """Law 5: the energy that the ledger books for a weight's gradient at strength 0 is that of the very gradient."""
    clean = passes(build())
    zero = noisy_run(build(), plan_of("qwen2", *WAYS[way]), 0.0)
    for name in LINEARS:
        gradient = clean.gradients[f"{name}.weight"].double()
        assert f"{name} backward:weight" in zero.counts
        count = zero.counts[f"{name} backward:weight"]
        assert count.elements == gradient.numel(), name
        assert count.signal == pytest.approx(gradient.square().sum().item(), rel=1e-4), name


def gradients_carry_the_error(names: Sequence[str] = LINEARS, scale: float = 0.05, way: str = "auto") -> None:
    """Backward noise on one linear: the energy of its weight gradient's error is the requested one, nothing of the
    forward pass changes, no gradient above it does, and every one below it does."""
    model = build()
    clean = passes(model)
    order = list(clean.gradients)
    for name in names:
        plan = plan_of("qwen2", f"op:linear include:{name} when:backward", way)
        run = noisy_run(model, plan, scale)
        assert same_bits(run.logits, clean.logits), name
        exact = clean.gradients[f"{name}.weight"]
        ratio = (run.gradients[f"{name}.weight"] - exact)[exact != 0] / exact[exact != 0]
        assert abs(ratio.square().mean().item() / scale**2 - 1) < bound(ratio.numel()), name
        bias = f"{name}.bias"
        if bias in order:  # no operand of the product
            assert same_bits(run.gradients[bias], clean.gradients[bias]), name
        layer = _layer(name)
        for other in order:
            if _layer(other) > layer and other != f"{name}.weight":
                assert same_bits(run.gradients[other], clean.gradients[other]), (name, other)
            if _layer(other) < layer:
                assert not same_bits(run.gradients[other], clean.gradients[other]), (name, other)


def _layer(parameter: str) -> int:
    """The layer of a parameter, -1 for the embedding and those after the layers."""
    return int(parameter.split(".")[2]) if ".layers." in parameter else -1 if "embed" in parameter else 99


def selection_holds_in_backward(way: str = "auto") -> None:
    """Law 6: ``layers:0 when:backward`` leaves the outputs, layer 1 and the head alone; only layer 0 is counted."""
    model = build()
    clean = passes(model)
    run = noisy_run(model, plan_of("qwen2", "op:linear,matmul,silu layers:0 when:backward", way))
    assert same_bits(run.logits, clean.logits)
    assert {count.layer for count in run.counts.values()} == {0}
    assert {count.direction for count in run.counts.values()} == {BACKWARD}
    for name in clean.gradients:
        kept = _layer(name) >= 1
        assert same_bits(run.gradients[name], clean.gradients[name]) == kept, name


def only_the_operator(way: str = "auto") -> None:
    """Law 6: noise on the gradients of QK counts QK only, and leaves what lies above the products alone."""
    clean = passes(build())
    run = noisy_run(build(), plan_of("qwen2", "op:qk layers:1 when:backward", way))
    assert run.calls() == {("qk", BACKWARD, "input"): 1, ("qk", BACKWARD, "other"): 1}
    changed = {name for name in clean.gradients if not same_bits(run.gradients[name], clean.gradients[name])}
    assert {name for name in changed if ".layers.1." in name} == {
        f"model.layers.1.{name}"
        for name in (
            *("self_attn.q_proj.weight", "self_attn.q_proj.bias", "self_attn.k_proj.weight"),
            *("self_attn.k_proj.bias", "input_layernorm.weight"),
        )
    }


def ways_agree(
    checkpointing: bool | None = None,
    place: str = "profile:all-ops",
    kind: str = "qwen2",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Law 7: hooks and the function mode give the same bits and the same counts, ``checkpointing`` (use_reentrant)
    or not, also with as many tokens as heads."""
    runs = []
    for way in ("auto", "functions"):
        for tokens in (6, 4):
            model = build(kind, "sdpa" if "sdpa" in place else "eager", dtype).train()
            if checkpointing is not None:
                model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
            given = {name: tensor[:, -tokens:] for name, tensor in batch().items()}
            with noisy(model, f"relative_gaussian(0.1) @ {place} when:both", way=way) as noise:
                run = passes(model, None, given)
                runs.append(Run(run.logits, run.gradients, {count.label: count for count in noise.counts()}))
    for first, second in ((runs[0], runs[2]), (runs[1], runs[3])):
        assert first.counts.keys() == second.counts.keys()
        assert first.counts == second.counts
        assert same(first, second)


def recomputes_its_own_forward(reentrant: bool, way: str = "hooks") -> None:
    """Two forwards, then one backward through both: gradients and draws are those without checkpointing."""
    runs, counts = [], []
    place, how = WAYS[way]
    for checkpointing in (False, True):
        model = build().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        given = batch(padded=False)
        other = {"input_ids": given["input_ids"].flip(1)}
        with noisy(model, f"relative_gaussian(0.1) @ {place}", way=how) as noise:
            logits = [model(**inputs, use_cache=False).logits for inputs in (given, other)]
            (loss_of(logits[0]) + loss_of(logits[1])).backward()
            counts.append({count.label: count for count in noise.counts()})
        runs.append(Run(torch.cat(logits).detach(), {n: p.grad for n, p in model.named_parameters()}, {}))
    assert same(*runs)
    plain, recomputed = counts
    for label, count in plain.items():
        other_count = recomputed[label]
        assert (count.calls, count.changed, count.elements) == (
            other_count.calls,
            other_count.changed,
            other_count.elements,
        ), label
    again = {count.site for count in recomputed.values() if count.direction == RECOMPUTE}
    inside = {count.site for count in plain.values() if count.direction == FORWARD and count.layer is not None}
    missing = {site.rpartition(".")[2] for site in inside - again}
    assert again <= inside and missing <= {"down_proj"}, "non-reentrant recomputation stops at the last saved tensor"


def recomputes_by_hand() -> None:
    """torch's own checkpoint inside a model: bound to its forward it repeats its noise, unbound it raises."""
    spec = "relative_gaussian(0.1) @ op:linear,silu when:both"
    inputs = {"input_ids": torch.arange(6).view(2, 3)}
    found = {}
    for kind in ("", "bound"):
        model = ByHand(kind)
        with NoiseSession(model, build_plan(model, parse_noise(spec))) as session:
            model.session = session
            found[kind] = passes(model, None, inputs)
    assert same(found[""], found["bound"])
    for kind in ("plain", "reentrant"):
        model = ByHand(kind)
        with NoiseSession(model, build_plan(model, parse_noise(spec))) as session:
            model.session = session
            with pytest.raises(NoiseSpecError, match="checkpoint_contexts"):
                passes(model, None, inputs)


def drops_no_gradient(way: str) -> None:
    """Every parameter that has a non-zero gradient without noise has one with it."""
    clean = passes(build())
    run = noisy_run(build(), plan_of("qwen2", *WAYS[way]))
    assert run.gradients.keys() == clean.gradients.keys()
    for name, gradient in clean.gradients.items():
        assert bool(run.gradients[name].any()) == bool(gradient.any()), name
        assert run.gradients[name].isfinite().all(), name


def weights_pass_straight_through() -> None:
    """``at:weight``: the input's gradient is that of the perturbed weight, bit for bit; the weight's is passed on."""
    model = build()
    plan = plan_of("qwen2", "op:linear at:weight", "auto")
    kept: dict[str, Tensor] = {}

    def before(module: Any, args: Any) -> None:
        kept["weight"] = module.weight.detach().clone()
        kept["input"] = args[0]
        args[0].retain_grad()

    def after(module: Any, args: Any, output: Tensor) -> None:
        output.retain_grad()
        kept["output"] = output

    given = batch(padded=False)
    bits = model.lm_head.weight.detach().clone()
    with NoiseSession(model, plan) as session, session.batch(ITEMS, [0] * 3, 0.1):
        with model.lm_head.register_forward_pre_hook(before), model.lm_head.register_forward_hook(after):
            loss_of(model(**given, use_cache=False).logits).backward()
        counts = session.ledger.counts(0.1)
    assert same_bits(model.lm_head.weight, bits)
    difference = (kept["weight"] - bits) / bits
    assert abs(difference.square().mean().item() / 0.01 - 1) < bound(bits.numel())
    assert counts["lm_head:weight"].elements == bits.numel()
    incoming = kept["output"].grad
    assert incoming is not None and kept["input"].grad is not None
    flat, hidden = incoming.reshape(-1, VOCAB), kept["input"].detach().reshape(-1, 16)
    assert same_bits(kept["input"].grad.reshape(-1, 16), flat @ kept["weight"])
    assert not same_bits(kept["input"].grad.reshape(-1, 16), flat @ bits)
    assert torch.allclose(model.lm_head.weight.grad, flat.t() @ hidden, rtol=1e-5, atol=1e-6)


def norms_keep_their_gradient(dtype: torch.dtype) -> None:
    """Norms at strength 0: outputs have the clean bits; gradients too, up to the order of one sum in float32."""
    model = build(dtype=dtype)
    clean, zero = passes(model), noisy_run(model, plan_of("qwen2", "op:rms_norm when:both", "auto"), 0.0)
    assert same_bits(clean.logits, zero.logits)
    assert zero.calls()["rms_norm", BACKWARD, "input"] == 5
    if dtype != torch.float32:
        assert same_gradients(clean, zero)
    for name, gradient in clean.gradients.items():
        assert torch.allclose(zero.gradients[name], gradient, rtol=1e-4, atol=1e-5 * gradient.abs().max()), name
