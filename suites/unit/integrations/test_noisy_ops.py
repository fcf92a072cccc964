"""The ancestor's interface: what it does here, what it refuses, and each difference that its text claims."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from harness.exceptions import NoiseSpecError
from harness.integrations import noisy_ops
from harness.integrations.noisy_state import NoisyOps
from suites.unit.integrations.noisy_totals import IDS, PRODUCTS, differs, totals

pytestmark = pytest.mark.long


def train(model):
    model(input_ids=IDS, labels=IDS).loss.backward()


def test_the_functions_share_one_state():
    noisy_ops.enable_noisy_ops(0.05)
    try:
        F.linear(torch.ones(2, 3), torch.ones(4, 3))
        noisy_ops.set_phase("rollout")
        torch.bmm(torch.ones(1, 2, 3), torch.ones(1, 3, 2))
        stats = noisy_ops.get_injection_stats()
        text = noisy_ops.print_injection_summary()
    finally:
        counts = noisy_ops.disable_noisy_ops()
        noisy_ops.set_phase("unknown")
    assert stats["enabled"] and stats["error_scale"] == 0.05 and stats["error_type"] == "relative_gaussian"
    assert stats["current_phase"] == "rollout" and stats["forward_enabled"] and stats["backward_enabled"]
    assert stats["counts"] == counts
    assert {name: calls for name, calls in counts.items() if calls} == {"unknown_forward": 1, "rollout_forward": 1}
    assert stats["elements"] == 8 + 4 and 0 < stats["changed"] <= 12
    assert "rollout: forward 1, backward 0" in text and "unknown: forward 1" in text
    assert not noisy_ops.get_injection_stats()["enabled"]


@pytest.mark.parametrize("name", noisy_ops.__all__)
def test_every_function_says_what_it_does(name):
    assert getattr(noisy_ops, name).__doc__


def test_counts_of_a_model(ops, toy):
    model = toy("eager")
    assert ops.register_layer_hooks(model) == 2
    ops.enable(0.05)
    train(model)
    products = PRODUCTS + 2 * 2  # with QK and PV
    assert totals(ops) == (products, 2 * products)
    layers = ops.get_layer_injection_stats()
    assert layers == {
        0: {"forward": 9, "backward": 18},
        1: {"forward": 9, "backward": 18},
        "unknown": {"forward": 1, "backward": 2},  # the head
    }
    ops.reset_layer_injection_stats()
    assert ops.get_layer_injection_stats() == {}
    assert totals(ops) == (products, 2 * products)
    ops.reset_injection_stats()
    assert totals(ops) == (0, 0)


def test_all_operators_of_a_model(ops, toy):
    model = toy("eager")
    ops.register_layer_hooks(model)
    ops.enable(0.05, all_ops_mode=True)
    with torch.no_grad():
        model(IDS)
    # a linear model has neither gelu nor layer_norm; softmax and silu once per layer
    assert totals(ops) == (PRODUCTS + 2 * 2 + 2 * 2, 0)


def test_layers_are_right_in_the_backward_pass(ops, toy):
    model = toy("eager")
    ops.register_layer_hooks(model)
    ops.set_selective_layers([0])
    ops.enable(0.05)
    train(model)
    assert ops.get_layer_injection_stats() == {0: {"forward": 9, "backward": 18}}
    ops.set_selective_layers(None)
    assert ops.get_selective_layers() is None
    ops.reset_layer_injection_stats()
    train(model)
    assert set(ops.get_layer_injection_stats()) == {0, 1, "unknown"}


def test_only_what_runs_inside_a_registered_model(ops, toy, x, w):
    model = toy("eager")
    ops.register_layer_hooks(model)
    assert not differs(ops, lambda: F.linear(x, w).detach())
    assert differs(ops, lambda: model(IDS).logits.clone().detach())


def test_a_model_may_be_registered_later(ops, toy, x, w):
    model = toy("eager")
    ops.enable(0.05)
    F.linear(x, w)
    ops.register_layer_hooks(model)
    with torch.no_grad():
        model(IDS)
    assert ops.get_injection_stats()["total_forward"] == 1 + PRODUCTS + 4
    assert ops.register_layer_hooks(model) == 2  # again: nothing is added
    with torch.no_grad():
        model(IDS)
    assert ops.get_injection_stats()["total_forward"] == 1 + 2 * (PRODUCTS + 4)


def test_recomputation_repeats_the_noise_of_its_forward(ops, toy):
    """Counted as forward; the gradients are those without checkpointing."""
    gradients, counts = [], []
    for checkpointed in (False, True):
        model = toy("eager").train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        state = NoisyOps()
        state.register_layer_hooks(model)
        with state.context(0.05):
            train(model)
            counts.append(totals(state))
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *gradients))
    products = PRODUCTS + 4
    assert counts == [(products, 2 * products), (products + 2 * 9, 2 * products)]


def test_a_model_without_a_chosen_operator_is_refused(ops, toy):
    model = toy("eager")
    ops.register_layer_hooks(model)
    ops.set_selective_operators(["bmm"])
    with pytest.raises(NoiseSpecError, match="'bmm'; the registered model does not compute it"):
        ops.enable(0.05)
    assert not ops.get_injection_stats()["enabled"]


def test_fused_attention_is_refused(ops, toy):
    model = toy("sdpa")
    ops.register_layer_hooks(model)
    with pytest.raises(NoiseSpecError, match="fused attention"):
        ops.enable(0.05)
    ops.set_selective_operators(["linear"])
    ops.enable(0.05)
    train(model)
    assert totals(ops) == (PRODUCTS, 2 * PRODUCTS)


def test_conv1d_counts_as_a_linear(ops):
    """GPT-2's linears are addmm, which the ancestor missed."""
    config = GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2, attn_implementation="eager")
    model = GPT2LMHeadModel(config).eval()
    assert ops.register_layer_hooks(model) == 2
    ops.set_selective_operators(["linear"])
    ops.enable(0.05)
    with torch.no_grad():
        model(IDS)
    assert totals(ops) == (2 * 4 + 1, 0)


def test_models_inside_one_another_are_refused(ops, toy):
    model = toy("eager")
    ops.register_layer_hooks(model)
    with pytest.raises(NoiseSpecError, match="one holds the other"):
        ops.register_layer_hooks(model.model)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, w: x @ w,
        lambda x, w: x.matmul(w),
        lambda x, w: torch.mm(x, mat2=w),
        lambda x, w: torch.matmul(input=x, other=w),
        lambda x, w: torch.mv(x, w[0]),
        lambda x, w: torch.addmm(x, x, w),
        lambda x, w: F.linear(input=x, weight=w),
    ],
)
def test_every_spelling_forward_and_backward(ops, x, w, compute):
    """The ancestor missed most of these, and failed on named arguments and vectors."""
    ops.enable(0.05)
    compute(x, w).sum().backward()
    assert totals(ops) == (1, 2)


@pytest.mark.parametrize("compute", [torch.softmax, torch.Tensor.softmax, F.softmax])
def test_every_spelling_of_softmax(ops, x, compute):
    ops.enable(0.05, all_ops_mode=True)
    assert compute(x, -1).sum(-1).detach() == pytest.approx(torch.ones(40), abs=1e-6)
    assert totals(ops) == (1, 0)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, w: torch.einsum("ij,jk->ik", x, w),
        lambda x, w: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
        lambda x, w: F.rms_norm(x, (8,)),
        lambda x, w: F.embedding(torch.arange(8), w),
    ],
)
def test_what_has_no_name_here_is_left_alone(ops, x, w, compute):
    assert not differs(ops, lambda: compute(x, w).detach(), all_ops_mode=True)


def test_out_is_written(ops, x, w):
    target = torch.empty(40, 8)
    with torch.no_grad(), ops.context(0.05):
        result = torch.matmul(x, w, out=target)
    assert result is target
    assert not torch.equal(target, x @ w)


def test_bias_is_part_of_what_a_linear_is_relative_to(ops):
    """Where the product is 0 the ancestor had no noise at all."""
    assert differs(ops, lambda: F.linear(torch.zeros(4, 8), torch.zeros(8, 8), torch.ones(8)))


def test_linear_and_matmul_are_chosen_apart(ops, x, w):
    for chosen, one, other in (("linear", F.linear, torch.matmul), ("matmul", torch.matmul, F.linear)):
        ops.set_selective_operators([chosen])
        assert ops.get_selective_operators() == {chosen}
        ops.enable(0.05)
        other(x, w).sum().backward()
        assert totals(ops) == (0, 0)
        one(x, w).sum().backward()
        assert totals(ops) == (1, 2)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gradient_of_gelu_is_exact(ops, x, approximate):
    """At scale 0 the ancestor was off by 9e-4."""
    F.gelu(x, approximate=approximate).sum().backward()
    exact, x.grad = x.grad, None
    with ops.context(0.0, all_ops_mode=True):
        F.gelu(x, approximate=approximate).sum().backward()
        assert totals(ops) == (1, 1)
    assert torch.equal(x.grad, exact)


def test_layer_norm_needs_no_weight_and_silu_stays_in_place(ops, x):
    with ops.context(0.05, all_ops_mode=True):
        F.layer_norm(x, (8,)).square().sum().backward()
        assert totals(ops) == (1, 1)
        y = x.detach().clone()
        assert F.silu(y, inplace=True) is y
    assert not torch.equal(y, F.silu(x.detach()))


def test_softmax_over_another_dimension_is_refused(ops, x):
    ops.enable(0.05, all_ops_mode=True)
    with pytest.raises(NoiseSpecError, match="last one"):
        F.softmax(x, dim=0)


def test_the_global_generator_is_not_touched(ops, x, w):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    ops.enable(0.05)
    F.linear(x, w).sum().backward()
    assert torch.equal(torch.rand(4), expected)


def test_draws_follow_the_seed_and_the_opening(x, w):
    def run(state, **seed):
        with state.context(0.05, **seed):
            return F.linear(x, w).detach()

    one, other = NoisyOps(), NoisyOps()
    first, second = run(one), run(one)
    assert not torch.equal(first, second)  # or every training step would have the same noise
    assert torch.equal(first, run(other))
    assert torch.equal(second, run(other))
    assert not torch.equal(first, run(NoisyOps(), seed=1))


def test_rounded_once(ops):
    """The draws are not rounded to the dtype of the values first."""
    y = torch.ones(1000, 64, dtype=torch.bfloat16)
    eye = torch.eye(64, dtype=torch.bfloat16)
    with ops.context(0.5):
        noised = y @ eye
    other = NoisyOps()
    with other.context(0.5):
        wide = y.float() @ eye.float()
    assert torch.equal(noised, wide.bfloat16())


@pytest.mark.parametrize("name", ["truncation", "systematic_bias", "absolute_gaussian"])
def test_error_types(ops, x, w, name):
    assert differs(ops, lambda: F.linear(x, w).detach(), error_type=name)


@pytest.mark.parametrize(
    ("enabled", "message"),
    [
        ({"error_type": "relative_gausian"}, "did you mean 'relative_gaussian'"),
        ({"error_type": "fake_quant"}, "unknown error type"),
        ({"error_scale": -0.1}, "scale -0.1"),
        ({"error_scale": float("nan")}, "scale nan"),
        ({"error_scale": "0.05"}, "scale '0.05'"),
        ({"error_scale": None}, "needs a scale"),
        ({"all_ops_mode": "yes"}, "True or False"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_wrong_arguments_are_refused_and_change_nothing(ops, refusal, x, w, enabled, message):
    ops.enable(0.05)
    before = ops.settings
    assert message in refusal(lambda: ops.enable(**enabled), kind=NoiseSpecError)
    assert ops.settings == before
    F.linear(x, w)
    assert totals(ops) == (1, 0)


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("set_selective_operators", (["linaer"],), "did you mean 'linear'"),
        ("set_selective_operators", ([],), "at least one"),
        ("set_selective_operators", ("linear",), "at least one"),
        ("set_selective_operators", (["softmax"],), "all_ops_mode"),
        ("set_selective_layers", ([],), "at least one"),
        ("set_selective_layers", ([True],), "layer numbers"),
        ("set_selective_layers", ([0],), "register_layer_hooks"),
        ("set_noise_phases", (False, False), "disable_noisy_ops"),
        ("set_noise_phases", (1, 0), "True or False"),
        ("set_phase", ("actor",), "did you mean 'actor_"),
    ],
)
def test_wrong_settings_are_refused_and_change_nothing(ops, refusal, x, w, call, arguments, message):
    ops.enable(0.05)
    before = ops.settings
    with pytest.raises(NoiseSpecError, match=message) as caught:
        getattr(ops, call)(*arguments)
    assert "\n" not in str(caught.value)
    assert ops.settings == before
    assert ops.get_phase() == "unknown"
    F.linear(x, w).sum().backward()
    assert totals(ops) == (1, 2)


def test_unknown_layers_of_a_model_are_refused(ops, toy):
    model = toy("eager")
    ops.register_layer_hooks(model)
    ops.enable(0.05)
    with pytest.raises(NoiseSpecError, match="layers here: 0-1"):
        ops.set_selective_layers([7])
    assert ops.get_selective_layers() is None
    with torch.no_grad():
        model(IDS)
    assert totals(ops) == (PRODUCTS + 4, 0)


def test_a_linear_layer_of_a_script(ops):
    """The ancestor's own example, as its users have it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    with ops.context(error_scale=0.05):
        model(torch.randn(3, 8)).sum().backward()
        # the first layer's input wants no gradient
        assert totals(ops) == (2, 3)
