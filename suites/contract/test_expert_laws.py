"""Noise on the products of stacked experts: clean at 0, keyed by token and expert, counted, audited and replayed."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.exceptions import NoiseSpecError
from harness.noise import NoiseSession, build_plan, noisy
from harness.noise.audit.auditor import Auditor
from harness.noise.audit.check import check_audit
from harness.noise.audit.draws import Draws
from harness.noise.audit.operands import OperandAuditor, check_operands
from harness.noise.estimate.expected import expected_counts
from harness.noise.frames import Rows
from harness.noise.replay.forcing import Answer, replay
from harness.noise.replay.hooks import Layer
from harness.noise.ways import experts as way
from harness.numerics.blocks import has_outer_scale, largest_of_rows, outer_scale, quantize
from harness.record import BACKWARD
from harness.spec import parse_noise
from suites.contract.expert_models import (
    CHOSEN,
    CONFIGS,
    HIDDEN,
    IMPLEMENTATIONS,
    ITEMS,
    LAYERS,
    WIDE,
    batch,
    mixture,
    noisy_logits,
    rows_drawn,
    sites_of,
)
from suites.contract.noise_models import passes, same, same_bits

pytestmark = pytest.mark.contract
KINDS = tuple(CONFIGS)
REAL = 16
EVERY = pytest.mark.parametrize(("kind", "experts"), [(kind, way) for kind in KINDS for way in IMPLEMENTATIONS])


@EVERY
def test_strength_zero_is_bitwise_clean_with_gradients(kind: str, experts: str) -> None:
    model, given = mixture(kind, experts), batch()
    clean = passes(model, None, given)
    with noisy(model, "relative_gaussian(0) @ op:linear when:both") as noise:
        zero = passes(model, None, given)
    assert same(clean, zero)
    assert {count.site for count in noise.counts() if "experts:" in count.site} == set(sites_of(kind))
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_those_of_token_and_expert_in_every_way_and_order(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows_drawn(mixture(kind, "eager"), monkeypatch)
    assert len(found) == len(set(found)) == len(sites_of(kind)) * REAL * CHOSEN
    for experts, order in (("batched_mm", (2, 0, 1)), ("grouped_mm", (1, 2, 0))):
        assert rows_drawn(mixture(kind, experts), monkeypatch, order) == found
    alone = rows_drawn(mixture(kind), monkeypatch, (1,))
    assert len(alone) == len(sites_of(kind)) * 6 * CHOSEN and set(alone) < set(found)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_do_not_depend_on_order_and_implementation(kind: str) -> None:
    real = batch()["attention_mask"].bool()
    logits, counts = noisy_logits(mixture(kind, "grouped_mm"))
    reference, _ = noisy_logits(mixture(kind, "eager"), order=(1, 2, 0))
    clean, _ = noisy_logits(mixture(kind, "batched_mm"), level=0.0)
    torch.testing.assert_close(reference[real], logits[real], rtol=1e-4, atol=1e-4)
    assert (clean - logits)[real].abs().max() > 0.1
    for name in sites_of(kind):
        width = 2 * WIDE if "gate_up" in name else HIDDEN
        assert (counts[name].rows, counts[name].elements) == (REAL * CHOSEN, REAL * CHOSEN * width)
        assert 0.04 < counts[name].relative_rms < 0.06


@pytest.mark.parametrize("experts", IMPLEMENTATIONS)
def test_the_products_of_a_call_are_booked_as_one(experts: str) -> None:
    _, counts = noisy_logits(mixture("qwen3_moe", experts))
    assert {counts[name].calls for name in sites_of("qwen3_moe")} == {1}


def test_rows_that_come_in_another_order_than_foreseen_have_their_own_keys() -> None:
    every = Rows.of(torch.arange(1, 3), None, 3, 0)
    chose = torch.tensor([[0, 2], [2, 1], [0, 1], [1, 2], [2, 0], [0, 1]])
    ordered = way.ByExpert(every, chose)
    tokens = torch.tensor([0, 2, 5, 4])  # of expert 0, first choices first
    shuffled = torch.tensor([4, 5, 0, 2])
    for each in (tokens, shuffled, shuffled[:2]):
        keys, real = ordered.of(0, each).columns
        wanted, _ = way.rows_of(every, each, torch.zeros_like(each)).columns
        assert torch.equal(keys.low, wanted.low) and torch.equal(keys.high, wanted.high) and real.all()


def audited(model: Any, level: float = 0.05, noise: str = "relative_gaussian @ op:linear") -> tuple[str, ...]:
    plan = build_plan(model, parse_noise(noise))
    draws = Draws(plan.spec.error, level, [site.name for site in plan.sites])
    auditor = Auditor(model, None, draws)
    with torch.no_grad(), NoiseSession(model, plan, in_place=True) as session, session.batch(ITEMS, [0] * 3, level):
        draws.begin(0, [(item, 0) for item in ITEMS], [4, 6, 6])
        with auditor:
            model(**batch(), use_cache=False)
    if level:
        assert all(draws.checked[site.name] for site in plan.sites)
    return check_audit(auditor, plan, level)


@EVERY
def test_the_auditor_recomputes_the_draws(kind: str, experts: str) -> None:
    assert audited(mixture(kind, experts)) == ()


@pytest.mark.parametrize("experts", IMPLEMENTATIONS)
def test_the_auditor_finds_clean_experts_clean(experts: str) -> None:
    assert audited(mixture("gpt_oss", experts), 0.0) == ()


def one_dead(self: Any, func: Any, args: Any, kwargs: Any, place: int, weight: Any) -> Any:
    if weight.field == "down_proj" and int(weight.chosen) == 1:
        self.rows[weight.field] += len(args[place])
        return func(*args, **kwargs)
    return HONEST(self, func, args, kwargs, place, weight)


def all_dead(self: Any, func: Any, args: Any, kwargs: Any, place: int, weight: Any) -> Any:
    self.rows[weight.field] += len(args[place])
    return func(*args, **kwargs)


HONEST = way.ExpertsMode._product


@pytest.mark.parametrize("mutant", [one_dead, all_dead])
def test_experts_that_are_silently_left_clean_are_found(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way.ExpertsMode, "_product", mutant)
    assert any("mlp.experts:down_proj" in problem for problem in audited(mixture("mixtral", "eager")))


def test_rows_keyed_without_their_expert_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "counter_keys", lambda keys, experts: keys)
    assert any("draws of their keys" in problem for problem in audited(mixture("qwen3_moe")))


def test_products_that_are_not_recognised_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "PRODUCTS", ("bmm",))
    with pytest.raises(NoiseSpecError, match=r"token and expert cannot be told.*exclude:experts"):
        noisy_logits(mixture("mixtral"))


@pytest.mark.parametrize("experts", IMPLEMENTATIONS)
def test_a_bias_beside_the_product_of_an_expert_stays_clean(experts: str) -> None:
    """gpt-oss without its weights: what its experts give is their biases, which the noise does not touch."""
    model, noise = mixture("gpt_oss", experts), "relative_gaussian @ op:linear include:experts"
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("gate_up_proj", "down_proj")):
                weight.zero_()
            elif name.endswith("proj_bias"):
                weight.normal_(generator=torch.Generator().manual_seed(3))
    loud, counts = noisy_logits(model, noise, 0.5)
    clean, _ = noisy_logits(model, noise, 0.0)
    assert torch.equal(loud, clean)
    assert all(counts[site].rows == REAL * CHOSEN and not counts[site].changed for site in sites_of("gpt_oss"))


@pytest.mark.parametrize("kind", KINDS)
def test_one_weight_can_be_left_out_by_name(kind: str) -> None:
    model = mixture(kind)
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear exclude:down_proj"))
    inside = [site.name for site in plan.sites if "experts:" in site.name]
    assert inside == [name for name in sites_of(kind) if "gate_up" in name]
    assert plan.excluded[sites_of(kind)[1]] == "exclude:down_proj"
    assert audited(model, noise="relative_gaussian @ op:linear exclude:down_proj") == ()


@pytest.mark.parametrize("experts", IMPLEMENTATIONS)
def test_gradients_are_perturbed_alike_in_every_way(experts: str) -> None:
    """Draws on the gradient of a weight are those of the whole weight, whichever experts ran."""
    runs = []
    for each in ("eager", experts):
        model = mixture("mixtral", each)
        with noisy(model, "relative_gaussian(0.05) @ op:linear when:backward") as noise:
            runs.append(passes(model, None, batch()))
        counts = {(c.site, c.operand): c for c in noise.counts() if c.direction == BACKWARD and "experts:" in c.site}
        assert counts[sites_of("mixtral")[0], "input"].rows == REAL * CHOSEN
        plan = build_plan(model, parse_noise("relative_gaussian(0.05) @ op:linear when:backward"))
        for line in expected_counts(plan, model):
            if "experts:" in line.site.name and line.operand == "weight":
                assert counts[line.site.name, "weight"].elements == line.width.per_pass
    clean = passes(mixture("mixtral", experts), None, batch())
    torch.testing.assert_close(runs[0].gradients, runs[1].gradients, rtol=1e-3, atol=1e-3)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    assert not same_bits(runs[1].gradients[name], clean.gradients[name])


def by_hand(weight: Tensor, transposed: bool, noise: str) -> Tensor:
    """Each expert quantized by itself, blocks along its inputs."""
    recipe = parse_noise(noise).error.recipe
    found = []
    for expert in weight:
        matrix = expert.t().contiguous() if transposed else expert
        outer = outer_scale(recipe.format, largest_of_rows(matrix), False) if has_outer_scale(recipe.format) else None
        values = quantize(matrix, recipe, outer=outer).values
        found.append(values.t() if transposed else values)
    return torch.stack(found)


@pytest.mark.parametrize("fmt", ["mxfp4", "nvfp4", "int8"])
@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])
def test_stacked_weights_are_quantized_expert_by_expert(kind: str, fmt: str) -> None:
    noise = f"fake_quant({fmt}) @ op:linear at:weight"
    model, seen = mixture(kind), {}
    module = model.model.layers[0].mlp.experts
    plan = build_plan(model, parse_noise(noise))
    auditor = OperandAuditor(model, [plan])
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(ITEMS, [0] * 3, 1.0):
        handle = module.register_forward_pre_hook(lambda m, a: seen.update(x=m.gate_up_proj, y=m.down_proj))
        with auditor:
            model(**batch(), use_cache=False)
        handle.remove()
    assert check_operands(auditor) == ()
    for shown, field in (("x", "gate_up_proj"), ("y", "down_proj")):
        stored = getattr(module, field)
        assert torch.equal(seen[shown], by_hand(stored.detach(), module.is_transposed, noise))
        assert isinstance(stored, torch.nn.Parameter)


@EVERY
def test_inputs_of_experts_are_quantized_row_by_row(kind: str, experts: str) -> None:
    noise = "fake_quant(nvfp4) @ op:linear at:input"
    model = mixture(kind, experts)
    plan = build_plan(model, parse_noise(noise))
    auditor = OperandAuditor(model, [plan])
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(ITEMS, [0] * 3, 1.0):
        with auditor:
            model(**batch(), use_cache=False)
        counts = session.ledger.drain(1.0)
    assert check_operands(auditor) == ()
    name = f"{sites_of(kind)[0]}:input"
    assert counts[name].elements == REAL * CHOSEN * HIDDEN and counts[name].changed


def test_a_quantizer_of_experts_that_does_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way.ExpertsMode, "_product", all_dead)
    model = mixture("mixtral")
    plan = build_plan(model, parse_noise("fake_quant(mxfp4) @ op:linear at:input"))
    auditor = OperandAuditor(model, [plan])
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(ITEMS, [0] * 3, 1.0), auditor:
        model(**batch(), use_cache=False)
    assert any("experts:gate_up_proj:input was given" in problem for problem in check_operands(auditor))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "quantized", ["", "fake_quant(mxfp4) @ op:linear at:weight", "fake_quant(mxfp8_e4m3) @ op:linear at:input"]
)
def test_the_second_implementation_gives_the_same_logits(kind: str, quantized: str) -> None:
    model, level = mixture(kind), 0.05
    specs = [parse_noise(text) for text in (quantized, "relative_gaussian @ op:linear") if text]
    plans = [build_plan(model, spec) for spec in specs]
    ids = batch()["input_ids"][1]
    answer = Answer("two", 0, tuple(ids[:3].tolist()), tuple(ids[3:].tolist()), False)
    with torch.no_grad(), contextlib.ExitStack() as stack:
        for plan in plans:
            session = stack.enter_context(NoiseSession(model, plan))
            stack.enter_context(session.batch(["two"], [0], level if plan.spec.at == "output" else 1.0))
        logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0, 2:]
    layers = [Layer(plan.spec, tuple(site.name for site in plan.sites)) for plan in plans]
    ((_, found),) = replay(model, layers, [answer], level, ())
    own = logits.gather(1, ids[3:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(found.logits), own, rtol=1e-3, atol=1e-3)
    ((_, clean),) = replay(model, layers, [answer], 0.0, ())
    assert max(abs(a - b) for a, b in zip(clean.logits, found.logits, strict=True)) > 0.02


def test_layers_and_experts_have_draws_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two rows of one site share a draw beyond chance: 16 tokens with 2 experts each."""
    found = rows_drawn(mixture("mixtral"), monkeypatch)
    wide = torch.tensor([row for row in found if len(row) == HIDDEN])
    pairs = (wide[:, None] == wide[None]).float().mean(-1)
    assert len(wide) == LAYERS * 2 * REAL * CHOSEN
    assert (pairs - torch.eye(len(wide))).max() < 0.25


def test_no_auditor_keeps_a_model_alive() -> None:
    """The ancestor's interface holds models weakly, and takes noise on bare calls for granted once they are gone."""
    gc.collect()
    gc.disable()
    try:
        model = mixture("mixtral")
        plan = build_plan(model, parse_noise("fake_quant(mxfp8_e4m3) @ op:linear at:input"))
        with OperandAuditor(model, [plan]):
            pass
        alive = weakref.ref(model)
        del model
        assert alive() is None
    finally:
        gc.enable()
