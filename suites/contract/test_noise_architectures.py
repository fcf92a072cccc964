"""Every family of models that the tests can build: clean attention bit for bit, counts on paper, and the auditor."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from harness.noise import NoiseSession, build_plan, noisy
from harness.noise.audit.auditor import Auditor
from harness.noise.audit.check import check_audit
from harness.noise.flop_coverage import product_share
from harness.noise.kinds import router_of
from harness.record import BACKWARD, FORWARD
from harness.spec import parse_noise
from harness.spec.experts import FIELDS
from suites.contract.noise_models import (
    CONFIGS,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    ITEMS,
    KV_HEADS,
    LAYERS,
    MLP,
    REAL,
    VISIBLE,
    VOCAB,
    add_up,
    batch,
    build,
    noisy_run,
    passes,
    same_bits,
    same_gradients,
)

pytestmark = pytest.mark.contract
KINDS = tuple(CONFIGS)
CHOSEN = 2
"""Experts that a token of the mixture chooses."""

ATTENTION = {"eager": "op:qk,pv,softmax when:both", "sdpa": "op:sdpa when:both"}
OPERANDS = {
    "linear": ("input", "weight"),
    "conv1d": ("input", "weight"),
    "rms_norm": ("input", "weight"),
    "layer_norm": ("input", "weight"),
    "softmax": ("input",),
    "silu": ("input",),
    "gelu": ("input",),
    "relu": ("input",),
    "qk": ("input", "other"),
    "pv": ("input", "other"),
    "sdpa": ("query", "key", "value"),
}
SITES = {
    "qwen2": {"linear": 7 * LAYERS + 1, "rms_norm": 2 * LAYERS + 1, "silu": LAYERS},
    "llama": {"linear": 7 * LAYERS + 1, "rms_norm": 2 * LAYERS + 1, "silu": LAYERS},
    "gemma": {"linear": 7 * LAYERS + 1, "rms_norm": 2 * LAYERS + 1, "gelu": LAYERS},
    "gpt2": {"conv1d": 4 * LAYERS, "linear": 1, "layer_norm": 2 * LAYERS + 1, "gelu": LAYERS},
    "opt": {"linear": 6 * LAYERS + 1, "layer_norm": 2 * LAYERS + 1, "relu": LAYERS},
    "phi": {"linear": 6 * LAYERS + 1, "layer_norm": LAYERS + 1, "gelu": LAYERS},
    "mixtral": {"linear": (4 + 2) * LAYERS + 1, "rms_norm": 2 * LAYERS + 1, "silu": LAYERS},
}
"""Operators of each model and how many calls a forward makes of them, beside attention."""

RESULTS = {
    "qwen2": LAYERS * (2 * 16 + 2 * 8 + 2 * 24 + 16) + VOCAB,
    "llama": LAYERS * (2 * 16 + 2 * 8 + 2 * 24 + 16) + VOCAB,
    "gemma": LAYERS * (2 * 16 + 2 * 8 + 2 * 24 + 16) + VOCAB,
    "gpt2": LAYERS * (48 + 16 + 64 + 16) + VOCAB,
    "opt": LAYERS * (4 * 16 + 24 + 16) + VOCAB,
    "phi": LAYERS * (4 * 16 + 24 + 16) + VOCAB,
    "mixtral": LAYERS * (2 * 16 + 2 * 8 + CHOSEN * (2 * 24 + 16)) + VOCAB,
}
"""Features that the linears of a model (of either layout) give for one token."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_attention_under_noise_of_strength_zero_is_the_models_own(kind, attention, dtype):
    model = build(kind, attention, dtype)
    clean = passes(model)
    zero = noisy_run(model, build_plan(model, parse_noise(f"relative_gaussian @ {ATTENTION[attention]}")), 0.0)
    real = batch()["attention_mask"].bool()
    assert same_bits(clean.logits[real], zero.logits[real])
    assert same_gradients(clean, zero)
    assert model.config._attn_implementation == attention


def expected_calls(kind, attention):
    """(operator, direction, operand) -> calls of one forward and backward pass under ``profile:all-ops``."""
    forward = dict(SITES[kind])
    forward |= {"qk": LAYERS, "pv": LAYERS, "softmax": LAYERS} if attention == "eager" else {"sdpa": LAYERS}
    wanted = {(op, FORWARD, ""): calls for op, calls in forward.items()}
    return wanted | {(op, BACKWARD, operand): calls for op, calls in forward.items() for operand in OPERANDS[op]}


@pytest.mark.parametrize("way", ["auto", "functions"])
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_on_paper(kind, attention, way):
    model = build(kind, attention)
    place = "profile:all-ops" if attention == "eager" else f"op:sdpa,{','.join(set(SITES[kind]) - {'conv1d'})}"
    with noisy(model, f"relative_gaussian(0.05) @ {place} when:both", way=way) as noise:
        passes(model)
    counts = noise.counts()
    assert add_up(counts, lambda count: count.calls) == expected_calls(kind, attention)
    forward = [count for count in counts if count.direction == FORWARD]
    inside = [count for count in forward if ".experts:" in count.site]
    assert {count.rows for count in inside} == ({CHOSEN * REAL} if kind == "mixtral" else set())
    if kind != "mixtral":  # rows of experts' activations belong to no item
        assert {count.rows for count in forward} == {REAL}
    elements = add_up(forward, lambda count: count.elements)
    linears = sum(elements.get((op, FORWARD, ""), 0) for op in ("linear", "conv1d"))
    assert linears == REAL * RESULTS[kind]
    if attention == "eager":
        assert elements["qk", FORWARD, ""] == elements["softmax", FORWARD, ""] == LAYERS * HEADS * VISIBLE
    assert elements["pv" if attention == "eager" else "sdpa", FORWARD, ""] == LAYERS * REAL * HIDDEN
    assert all(count.layer in (0, 1) for count in counts if count.op in ("qk", "pv", "softmax", "sdpa"))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("scale", [0.0, 0.05])
@pytest.mark.parametrize(
    ("attention", "place"), [("eager", "profile:matmul"), ("eager", "profile:all-ops"), ("sdpa", "op:linear,sdpa")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_auditor_sees_what_the_plan_says(kind, attention, place, scale, gradients):
    if kind == "mixtral" and "all-ops" in place:
        place = "op:linear,matmul,softmax,rms_norm"  # rows of experts' activations belong to no item
    model = build(kind, attention)
    plan = build_plan(model, parse_noise(f"relative_gaussian @ {place} when:both"))
    with (
        torch.set_grad_enabled(gradients),
        NoiseSession(model, plan) as session,
        session.batch(ITEMS, [0] * 3, scale),
        Auditor(model) as auditor,
    ):
        model(**batch(), use_cache=False)
    assert check_audit(auditor, plan, scale) == ()
    products = Counter(module for module, _ in auditor.products)
    assert set(products) >= {site.module for site in plan.sites if site.op in ("linear", "conv1d", "qk", "pv")}


def test_the_auditor_finds_noise_where_none_was_asked_for():
    """The check can fail: noise on all linears, audited against a plan without the last."""
    model = build()
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear exclude:lm_head"))
    every = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    with NoiseSession(model, every) as session, session.batch(ITEMS, [0] * 3, 0.05), Auditor(model) as auditor:
        model(**batch(), use_cache=False)
    (problem,) = check_audit(auditor, plan, 0.05)
    assert "lm_head" in problem


def test_the_router_of_a_mixture_is_left_out_and_listed():
    model = build("mixtral")
    plan = build_plan(model, parse_noise("relative_gaussian(0.05) @ op:linear when:both"))
    assert not any("gate" in site.module.split(".") for site in plan.sites)
    for layer in range(LAYERS):
        assert "router" in plan.excluded[f"model.layers.{layer}.mlp.gate"]
        assert {f"model.layers.{layer}.mlp.experts:{field}" for field in FIELDS[::2]} <= {s.name for s in plan.sites}
    assert not plan.uncovered
    asked = build_plan(model, parse_noise("relative_gaussian(0.05) @ op:linear include:gate"))
    assert {site.module for site in asked.sites} == {f"model.layers.{layer}.mlp.gate" for layer in range(LAYERS)}


def test_flops_of_grouped_experts_are_those_on_paper():
    """Two of four experts for each token, three matrices of 16 x 24 in each."""
    model = build("mixtral")
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    assert plan.probe.flops["model.layers.0.mlp.experts"] == 2 * plan.probe.tokens * CHOSEN * 3 * HIDDEN * MLP
    attention = 2 * HIDDEN * (HIDDEN + KV_HEADS * HEAD_DIM)
    linears = LAYERS * (attention + CHOSEN * 3 * HIDDEN * MLP) + HIDDEN * VOCAB
    whole = linears + LAYERS * (HIDDEN * 4 + 2 * HIDDEN) + HEAD_DIM // 2  # router, QK and PV of one token, angles
    assert product_share(plan, model, 1)["share"] == pytest.approx(linears / whole)


def test_a_router_that_holds_its_linear_is_left_out():
    model = nn.Module()
    model.experts, model.gate = nn.ModuleList(), nn.Module()
    model.gate.wg = nn.Linear(4, 2)
    assert router_of("gate.wg", dict(model.named_modules())) == "gate"


def test_each_expert_that_a_token_chose_runs_two_products():
    """Gate and up together, and down; the gradient of a weight is that of all experts."""
    model = build("mixtral", experts="eager")
    chosen = [set(), set()]
    for layer in range(LAYERS):
        gate = model.get_submodule(f"model.layers.{layer}.mlp.gate")
        gate.register_forward_hook(lambda m, a, output, seen=chosen[layer]: seen.update(output[2].flatten().tolist()))
    with noisy(model, "relative_gaussian(0.05) @ op:linear when:both") as noise:
        clean_gate = model.model.layers[0].mlp.gate.weight.detach().clone()
        for experts in chosen:
            experts.clear()
        passes(model)
    counts = noise.counts()
    for layer, experts in enumerate(chosen):
        inside = [count for count in counts if count.site.startswith(f"model.layers.{layer}.mlp.experts")]
        assert experts and len(experts) <= 4
        calls = add_up(inside, lambda count: count.calls)
        assert calls == {
            ("linear", FORWARD, ""): 2 * len(experts),
            ("linear", BACKWARD, "input"): 2 * len(experts),
            ("linear", BACKWARD, "weight"): 2,
        }
        assert all(count.changed for count in inside)
    assert not any("gate" in count.site.split(":")[0].split(".") for count in counts)
    assert same_bits(model.model.layers[0].mlp.gate.weight, clean_gate)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_every_family_under_noise(kind):
    """Every parameter keeps its gradient, finite and not zero, and the noise is about as large as was asked for."""
    model = build(kind)
    clean = passes(model)
    place = "profile:matmul when:backward"
    with noisy(model, f"relative_gaussian(0.01) @ {place}"):
        run = passes(model)
    assert same_bits(run.logits, clean.logits)
    assert run.gradients.keys() == clean.gradients.keys()
    for name, gradient in clean.gradients.items():
        noised = run.gradients[name]
        assert noised.isfinite().all(), name
        assert bool(noised.any()) == bool(gradient.any()), name
    whole = torch.cat([gradient.flatten() for gradient in clean.gradients.values()])
    moved = torch.cat([run.gradients[name].flatten() for name in clean.gradients]) - whole
    assert 0.003 < (moved.norm() / whole.norm()).item() < 0.1
