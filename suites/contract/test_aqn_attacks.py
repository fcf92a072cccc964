"""What happens to a model between apply and restore that nobody planned: AQN says so, and leaves no noise behind."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.aqn import session
from harness.aqn.holder import ModuleHolder
from harness.aqn.session import Aqn
from harness.aqn.targets import LINEAR, RMSNORM, Targets
from harness.exceptions import HarnessError
from suites.contract.aqn_models import aqn_of, bits, config_of, model_of, same

pytestmark = pytest.mark.contract


@pytest.fixture
def model():
    return model_of("qwen2")


def test_a_replaced_parameter_is_an_update(model):
    aqn = aqn_of(model, kinds=(RMSNORM,))
    aqn.apply(3)
    fresh = torch.nn.Parameter(torch.full_like(model.model.norm.weight, 0.5))
    model.model.norm.weight = fresh
    assert aqn.restore().updated == ("model.norm",)
    assert model.model.norm.weight is fresh and (fresh == 0.5).all()


@pytest.mark.parametrize("size", [64, 640])
def test_one_element_written_in_place_keeps_its_value(size):
    linear = torch.nn.Linear(64, size, bias=False)
    holder = torch.nn.Sequential(linear)
    aqn = aqn_of(holder, kinds=(LINEAR,), sigma=0.005)
    clean = linear.weight.detach().clone()
    aqn.apply(3)
    noisy = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight[7, 3] = 42.0
    assert aqn.restore().updated == ("0",)
    assert linear.weight[7, 3] == 42
    # a small weight is left as it was found; of a large one only the row that was written is
    others = [row for row in range(size) if row != 7]
    assert torch.equal(linear.weight[others], (clean if 4 * size * 64 > 1 << 16 else noisy)[others])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [RMSNORM, LINEAR])
def test_a_weight_that_is_not_finite_is_refused(model, value, kind):
    with torch.no_grad():
        model.model.norm.weight[3] = value
        model.model.layers[1].mlp.down_proj.weight[3, 4] = value
    before = bits(model)
    aqn = aqn_of(model, kinds=(kind,), sigma=0.05 if kind == RMSNORM else 0.005)
    with pytest.raises(HarnessError, match="not finite"):
        aqn.apply(3)
    assert all(torch.equal(one.nan_to_num(7), bits(model)[name].nan_to_num(7)) for name, one in before.items())


def test_a_block_inside_a_block_is_refused_and_the_outer_one_ends_clean(model):
    before = bits(model)
    aqn = aqn_of(model)
    with aqn.applied(3):
        noisy = bits(model)
        with pytest.raises(HarnessError, match="inside a block"), aqn.applied(4):
            pass
        assert same(bits(model), noisy)
    assert same(bits(model), before)


def test_a_second_aqn_on_the_same_weights_is_refused_until_the_first_restores(model):
    before = bits(model)
    first, second = aqn_of(model), Aqn(ModuleHolder(model.model), config_of(seed=1))
    first.apply(3)
    noisy = bits(model)
    with pytest.raises(HarnessError, match="another AQN"):
        second.apply(3)
    assert same(bits(model), noisy)
    first.restore()
    second.apply(3)
    second.restore()
    assert same(bits(model), before)


def test_two_aqns_on_different_weights_of_one_model_get_along(model):
    before = bits(model)
    norms = Aqn(ModuleHolder(model), config_of(targets=Targets((RMSNORM,))))
    linears = Aqn(ModuleHolder(model), config_of(targets=Targets((LINEAR,)), sigma=0.005))
    norms.apply(3)
    linears.apply(3)
    norms.restore()
    linears.restore()
    assert same(bits(model), before)


@pytest.mark.parametrize("rows", [64, 9000])
def test_an_error_in_the_middle_of_a_weight_leaves_clean_weights(rows, monkeypatch):
    model = torch.nn.Sequential(torch.nn.Linear(64, rows, bias=False))
    before = bits(model)
    aqn = aqn_of(model, kinds=(LINEAR,), sigma=0.005)
    add = session.add_noise
    calls = []

    def failing(*given):
        calls.append(given)
        add(*given)
        if len(calls) == (2 if rows > 64 else 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(session, "add_noise", failing)
    with pytest.raises(KeyboardInterrupt):
        aqn.apply(3)
    assert same(bits(model), before)
    monkeypatch.setattr(session, "add_noise", add)
    aqn.apply(3)
    assert not same(bits(model), before)
    aqn.restore()
    assert same(bits(model), before)


def test_a_model_without_values_is_refused():
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(64, 64, bias=False))
    with pytest.raises(HarnessError, match="device meta"):
        aqn_of(model, kinds=(LINEAR,), sigma=0.005).apply(3)


def test_a_norm_that_two_modules_share_gets_its_noise_once(model):
    model.model.layers[2].input_layernorm.weight = model.model.norm.weight
    before = bits(model)
    aqn = aqn_of(model, kinds=(RMSNORM,))
    dose = aqn.apply(3)
    assert [layer.tied for layer in dose.layers if layer.tied] == [("model.norm",)]
    change = (model.model.norm.weight - before["model.norm.weight"]).detach().std()
    assert abs(float(change) / 0.05 - 1) < 0.5
    aqn.restore()
    assert same(bits(model), before)


def test_a_weight_that_does_not_lie_in_one_piece_is_perturbed_alike():
    plain, turned = torch.nn.Linear(64, 96, bias=False), torch.nn.Linear(64, 96, bias=False)
    with torch.no_grad():
        turned.weight = torch.nn.Parameter(plain.weight.detach().t().contiguous().t())
    assert not turned.weight.is_contiguous()
    before = turned.weight.detach().clone()
    one, other = (aqn_of(torch.nn.Sequential(each), kinds=(LINEAR,), sigma=0.005) for each in (plain, turned))
    one.apply(3)
    other.apply(3)
    assert torch.equal(plain.weight, turned.weight)
    other.restore()
    assert torch.equal(turned.weight, before)


def test_what_autograd_saved_before_the_noise_is_not_used_with_it(model):
    loss = model(torch.arange(6)[None]).logits.square().mean()
    with aqn_of(model, kinds=(LINEAR,), sigma=0.005).applied(3), pytest.raises(RuntimeError, match="modified by an"):
        loss.backward()


def test_a_copy_of_a_noisy_model_is_free_of_the_mark(model):
    aqn = aqn_of(model)
    aqn.apply(3)
    twin = copy.deepcopy(model)
    assert aqn_of(twin).apply(3).layers
    aqn.restore()


def test_an_updated_weight_is_the_clean_one_of_the_next_step(model):
    aqn = aqn_of(model, kinds=(LINEAR,), sigma=0.005)
    aqn.apply(3)
    new = {name: value * 1.25 for name, value in bits(model).items()}
    model.load_state_dict(new)
    assert len(aqn.restore().updated) == 21
    aqn.apply(4)
    assert not same(bits(model), new)
    aqn.restore()
    assert same(bits(model), new)


def test_a_compiled_model_computes_with_the_noise():
    plain = torch.nn.Sequential(torch.nn.Linear(64, 64, bias=False))
    compiled = torch.compile(plain, backend="eager")
    x = torch.ones(1, 64)
    clean = compiled(x).detach()
    aqn = aqn_of(compiled, kinds=(LINEAR,), sigma=0.005)
    assert aqn.effective == aqn_of(plain, kinds=(LINEAR,), sigma=0.005).effective
    with aqn.applied(3):
        noisy = compiled(x).detach()
        assert torch.equal(noisy, plain(x)) and not torch.equal(noisy, clean)
    assert torch.equal(compiled(x), clean)


def test_relative_sigma_of_a_part_is_refused():
    from suites.unit.aqn.test_targets import RMSNorm, RowParallelLinear, layers

    model = layers(("norm", RMSNorm(4)), ("proj", RowParallelLinear(12, 8, 2, 0)))
    with torch.no_grad():
        model.layers[0].proj.weight.normal_(generator=torch.Generator().manual_seed(0))
    with pytest.raises(HarnessError, match="is not that of the whole"):
        aqn_of(model, kinds=(LINEAR,), mode="relative", sigma=0.1).apply(3)


def test_weights_that_share_their_memory_only_get_their_noise_once():
    model = torch.nn.Sequential(torch.nn.Linear(64, 64, bias=False), torch.nn.Linear(64, 64, bias=False))
    model[1].weight.data = model[0].weight.data
    assert model[1].weight is not model[0].weight
    before = bits(model)
    aqn = aqn_of(model, kinds=(LINEAR,), sigma=0.005)
    (layer,) = aqn.apply(3).layers
    assert layer.tied == ("1",)
    assert abs(float((model[0].weight.detach() - before["0.weight"]).std()) / 0.005 - 1) < 0.06
    aqn.restore()
    assert same(bits(model), before)
