"""The laws of AQN over architectures and dtypes, and the mutants that each break one of them."""

from __future__ import annotations

import contextlib

import pytest
import torch

from harness.aqn import dose, session, targets
from harness.aqn.config import AqnConfig
from harness.aqn.holder import ModuleHolder
from harness.aqn.schedule import Schedule
from harness.aqn.session import Aqn
from harness.exceptions import HarnessError
from suites.contract.aqn_models import (
    CONFIGS,
    LAWS,
    LINEARS_OF,
    NORMS_OF,
    aqn_of,
    bits,
    config_of,
    model_of,
    same,
)

pytestmark = pytest.mark.contract
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_law(law, name):
    LAWS[law](model_of(name))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kinds", [("rmsnorm", "layernorm"), ("linear",)], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_restore_is_bit_exact(name, kinds, dtype):
    model = model_of(name, dtype)
    before = bits(model)
    aqn = aqn_of(model, kinds=kinds, sigma=0.05 if "rmsnorm" in kinds else 0.005)
    layers = aqn.apply(3).layers
    assert len(layers) == (NORMS_OF if "rmsnorm" in kinds else LINEARS_OF)[name]
    aqn.apply(6)
    assert not same(bits(model), before)
    with pytest.raises(KeyError), aqn.applied(4):
        raise KeyError
    assert same(bits(model), before)


def _patched(target, name, value):
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


def _restoring_nothing(self):
    self._kept, self._dose = [], None
    return session.Restored((), ())


def _restoring_over_an_update(self):
    kept, self._kept, self._dose = self._kept, [], None
    for each in kept:
        each.piece.data().copy_(each.clean)
    return session.Restored(tuple(each.piece.name for each in kept), ())


def _noise_twice(work, first, last, key, asked):
    session_add(work, first, last, key, asked)
    target, clean = work._target, work._clean
    noise = target.view(-1, target.shape[-1])[first:last] - clean.view(-1, target.shape[-1])[first:last]
    target.view(-1, target.shape[-1])[first:last] += noise


def _same_step(seed, step, name, region, device):
    return session_keys(seed, 0, name, region, device)


def _same_layer(seed, step, name, region, device):
    return session_keys(seed, step, "layer", region, device)


def _accumulating(work, first, last, key, asked):
    session_add(work, first, last, key, asked)
    target, clean = (each.view(-1, each.shape[-1])[first:last] for each in (work._target, work._clean))
    place = (*target.shape, work._target.data_ptr(), first)
    target += LEFT.get(place, 0)
    LEFT[place] = target - clean


def _every_kind(self, kind, name, experts):
    return True


session_add, session_keys, schedule_sigma = session.add_noise, session.draw_keys, Schedule.sigma
LEFT: dict[tuple[int, ...], torch.Tensor] = {}
MUTANTS = {
    "schedule stuck": _patched(Schedule, "sigma", lambda self, step: 0.0),
    "off by one stage": _patched(Schedule, "sigma", lambda self, step: schedule_sigma(self, max(0, step - 3))),
    "restore skipped": _patched(Aqn, "restore", _restoring_nothing),
    "restore over an update": _patched(Aqn, "restore", _restoring_over_an_update),
    "wrong class matched": _patched(targets.Targets, "takes", _every_kind),
    "multiplier ignored": _patched(AqnConfig, "multiplier", lambda self, layer, step: 1.0),
    "noise added twice": _patched(session, "add_noise", _noise_twice),
    "same draw every step": _patched(session, "draw_keys", _same_step),
    "same draw in every layer": _patched(session, "draw_keys", _same_layer),
    "accumulation": _patched(session, "add_noise", _accumulating),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_breaks_a_law(mutant, monkeypatch):
    LEFT.clear()
    MUTANTS[mutant](monkeypatch)
    # without the measurement of the dose, which finds most of them by itself: the laws have to find them too
    monkeypatch.setattr(session, "check_doses", lambda layers: None)
    broken = []
    for name, law in LAWS.items():
        try:
            law(model_of("qwen2"))
        except (AssertionError, HarnessError):
            broken.append(name)
    assert broken


@pytest.mark.parametrize("mutant", ["noise added twice"])
def test_the_dose_itself_finds(mutant, monkeypatch):
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(HarnessError, match="std"):
        aqn_of(model_of("qwen2"), kinds=("linear",), sigma=0.005).apply(3)


def test_an_error_while_applying_leaves_clean_weights(monkeypatch):
    model = model_of("qwen2")
    before = bits(model)
    calls = []

    def failing(*given):
        calls.append(given)
        if len(calls) == 4:
            raise RuntimeError("no memory")
        session_add(*given)

    monkeypatch.setattr(session, "add_noise", failing)
    with pytest.raises(RuntimeError):
        aqn_of(model).apply(3)
    assert same(bits(model), before)


@pytest.mark.parametrize("kind", ["rmsnorm", "linear"])
def test_bfloat16_that_swallows_sigma_is_refused(kind):
    model = model_of("qwen2", torch.bfloat16)
    before = bits(model)
    with pytest.raises(HarnessError, match="bfloat16"):
        aqn_of(model, kinds=(kind,), sigma=5e-4 if kind == "rmsnorm" else 1e-5).apply(3)
    assert same(bits(model), before)


def test_norms_run_in_float32_by_choice():
    model = model_of("qwen2", torch.bfloat16)
    before, ids = bits(model), torch.arange(12)[None]
    clean = model(ids).logits
    aqn = aqn_of(model, kinds=("rmsnorm",), sigma=5e-4, norm_dtype="float32")
    dose = aqn.apply(3)
    assert {layer.dtype for layer in dose.layers} == {"float32"}
    noisy = model(ids).logits
    assert noisy.dtype == torch.bfloat16 and not torch.equal(noisy, clean)
    aqn.restore()
    assert same(bits(model), before) and torch.equal(model(ids).logits, clean)
    aqn.apply(3)
    with torch.no_grad():
        model.model.norm.weight.fill_(2)
    assert aqn.restore().updated == ("model.norm",)
    assert (model.model.norm.weight == 2).all() and model.model.norm.weight.dtype == torch.bfloat16


def test_tied_weights_get_their_noise_once_and_are_named():
    from harness.aqn.targets import Targets

    model = model_of("qwen2")
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    before = bits(model)
    aqn = Aqn(ModuleHolder(model), config_of(sigma=0.005, targets=Targets(("linear",), include=("lm_head",))))
    (layer,) = aqn.apply(3).layers
    assert layer.name == "lm_head" and layer.tied == ("model.embed_tokens",)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    change = (model.lm_head.weight - before["lm_head.weight"]).std()
    assert abs(float(change) / 0.005 - 1) < 0.1
    aqn.restore()
    assert same(bits(model), before)


def test_an_adapter_is_left_alone_and_the_names_are_those_of_the_base():
    peft = pytest.importorskip("peft")
    plain, model = model_of("qwen2"), model_of("qwen2")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    with aqn_of(plain, kinds=("linear",), sigma=0.005).applied(3), contextlib.ExitStack() as stack:
        before = bits(adapted)
        aqn = aqn_of(adapted, kinds=("linear",), sigma=0.005)
        dose = stack.enter_context(aqn.applied(3))
        assert len(dose.layers) == LINEARS_OF["qwen2"] and aqn.effective
        for name, value in plain.state_dict().items():
            parent, _, last = name.rpartition(".")
            wrapped = f"base_model.model.{name}"
            inner = f"base_model.model.{parent}.base_layer.{last}"
            assert torch.equal(bits(adapted)[inner if inner in before else wrapped], value), name
        unchanged = [name for name in before if "lora_" in name]
        assert unchanged and all(torch.equal(before[name], bits(adapted)[name]) for name in unchanged)
    # the base is not sent again: the next step begins from clean bits
    aqn.apply(4)
    aqn.restore()
    assert same(bits(adapted), before)


def test_a_large_matrix_is_within_one_percent():
    holder = ModuleHolder(torch.nn.Sequential(torch.nn.Linear(512, 512, bias=False)))
    (layer,) = Aqn(holder, config_of(kinds=("linear",), sigma=0.005)).apply(3).layers
    assert layer.elements > dose.MANY and abs(layer.ratio - 1) < 0.01 and layer.problem() is None
