"""The gradient of fake quantization: straight through, never zero by accident."""

import math

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from harness.numerics import fake_quantize
from harness.numerics.block_scale import power_of_two, shared_exponent
from harness.numerics.blocks import quantize
from harness.spec.formats import FORMATS, ROUNDINGS, Recipe
from suites.contract.format_checks import assert_same
from suites.contract.format_data import extremes, normals, ordinary
from suites.contract.format_reference import CASES, MX

pytestmark = pytest.mark.contract
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
every_case = pytest.mark.parametrize(("name", "rule"), CASES)
every_rounding = pytest.mark.parametrize("rounding", ROUNDINGS)


def gradient(x, upstream, *how, **more):
    x = x.detach().clone().requires_grad_()
    fake_quantize(x, *how, **more).backward(upstream)
    return x.grad


def upstream_for(x):
    """Of all sizes, with zeros of both signs and what is not finite."""
    given = (normals(*x.shape, 61) * 10 ** normals(*x.shape, 62)).to(x.dtype)
    given[0, :5] = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan])
    return given


@every_rounding
@every_case
def test_the_gradient_is_the_one_from_above(name, rule, rounding):
    for dtype in FLOATS:
        x = ordinary(dtype)
        given = upstream_for(x)
        assert_same(gradient(x, given, name, rule, rounding), given, x)


@every_rounding
@every_case
def test_the_mask_is_zero_where_an_element_was_clipped_and_only_there(name, rule, rounding):
    x = ordinary(torch.float32)
    x[:, 40] *= 100  # unscaled formats clip it too
    given = upstream_for(x)
    clipped = quantize(x, Recipe.of(name, rule)).saturated
    found = gradient(x, given, name, rule, rounding, saturation_mask=True)
    assert_same(found, torch.where(clipped, torch.zeros_like(given), given), x)
    never = rule in ("ceil", "rceil") or FORMATS[name].scale == "fp32" or name in ("bf16", "fp16", "fp8_e5m2")
    assert bool(clipped.any()) is not never


def test_what_is_clipped_by_hand():
    """MXFP4 under floor: 7.9 is in the binade of 4 and clipped to 6; 6 is not; the neighbours above 6 are."""
    above = torch.nextafter(torch.tensor(6.0), torch.tensor(7.0)).item()
    x = torch.tensor([[7.9, 6.0, above, -7.0, 0.1, 0.0]])
    for rule, mask in (("floor", [0, 1, 0, 0, 1, 1]), ("rceil", [1] * 6), ("ceil", [1] * 6), ("even", [1] * 6)):
        found = gradient(x, torch.ones_like(x), "mxfp4", rule, saturation_mask=True)
        assert found.tolist() == [mask], rule
    given = gradient(torch.tensor([[500.0, 448.0, 449.0]]), torch.ones(1, 3), "fp8_e4m3", saturation_mask=True)
    assert given.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("name", MX)
def test_autograd_through_the_formula_would_be_zero(name):
    """Through rounding the derivative is zero wherever it is defined; ours agrees with finite differences in the mean.

    What a straight-through gradient approximates is the slope of the quantizer over a distance of many steps.
    """
    element = FORMATS[name].element
    x = normals(4, 64, 63).requires_grad_()
    exponent = shared_exponent(x.detach().abs().amax(1, keepdim=True), element, "floor")
    scale = power_of_two(exponent, torch.float64)
    magnitude = (x / scale).abs().clamp(max=element.largest)
    step = torch.exp2(magnitude.detach().log2().floor().clamp(min=element.smallest_exponent) - element.mantissa_bits)
    formula = (magnitude / step).round() * step * scale
    formula.sum().backward()
    assert (x.grad == 0).all()

    rows = normals(16, 32, 64)
    rows[:, 0] = 3.999  # holds the scale
    shifts = torch.linspace(-0.5, 0.5, 101).double()
    after = torch.stack([fake_quantize(torch.cat([rows[:, :1], rows[:, 1:] + by], 1), name) for by in shifts])
    slope = ((after - after.mean(0)) * shifts.view(-1, 1, 1)).sum(0) / shifts.square().sum()
    inside = rows[:, 1:].abs() < 2
    assert slope[:, 1:][inside].mean().item() == pytest.approx(1.0, abs=0.02)
    assert (gradient(rows, torch.ones_like(rows), name) == 1).all()


class Small(torch.nn.Module):
    """Two linears whose weights and inputs are seen quantized."""

    def __init__(self, name, recompute=False):
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 48), torch.nn.Linear(48, 1)
        self.name, self.recompute = name, recompute
        with torch.no_grad():
            self.first.weight.copy_(normals(48, 64, 65) / 8)
            self.second.weight.copy_(normals(1, 48, 66) / 7)
            self.first.bias.zero_()
            self.second.bias.zero_()

    def layer(self, linear, x):
        weight = fake_quantize(linear.weight, self.name, rounding="stochastic", key=3)
        return torch.nn.functional.linear(fake_quantize(x, self.name, saturation_mask=True), weight, linear.bias)

    def forward(self, x):
        if self.recompute:
            hidden = checkpoint(lambda y: self.layer(self.first, y), x, use_reentrant=False)
        else:
            hidden = self.layer(self.first, x)
        return self.layer(self.second, hidden.relu())


def gradients(model, x):
    model.zero_grad()
    loss = (model(x) - 1).square().mean()
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "int8_channel", "fp8_e4m3_tensor"])
def test_a_small_model_trains(name):
    x = normals(32, 64, 67).float()
    model = Small(name)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    for _ in range(30):
        losses.append(gradients(model, x)[0].item())
        assert all((parameter.grad != 0).any() for parameter in model.parameters())
        optimizer.step()
    assert losses[-1] < losses[0] / 4


def test_the_gradient_of_a_linear_is_that_of_its_quantized_weight():
    x, weight = normals(8, 64, 68).float(), normals(16, 64, 69).float().requires_grad_()
    seen = fake_quantize(weight.detach(), "mxfp4").requires_grad_()
    torch.nn.functional.linear(x, fake_quantize(weight, "mxfp4")).square().sum().backward()
    torch.nn.functional.linear(x, seen).square().sum().backward()
    assert torch.equal(weight.grad, seen.grad)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_recomputation_gives_the_same_gradients(name):
    x = normals(32, 64, 70).float()
    plain, again = gradients(Small(name), x), gradients(Small(name, recompute=True), x)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def test_under_a_compiler_values_and_gradients_are_the_same():
    def loss(x, weight):
        seen = fake_quantize(weight, "mxfp4", saturation_mask=True)
        return torch.nn.functional.linear(x, seen).square().mean()

    torch.compiler.reset()
    x, weight = normals(8, 64, 71).float(), normals(16, 64, 72).float()
    found = []
    for function in (loss, torch.compile(loss, fullgraph=False, backend="aot_eager")):
        given = weight.clone().requires_grad_()
        value = function(x, given)
        value.backward()
        found.append((value.detach(), given.grad))
    torch.testing.assert_close(*found)
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rounding"), [("mxfp4", "nearest_even"), ("nvfp4", "nearest_even"), ("mxfp4", "stochastic")]
)
def test_compiled_to_machine_code_bits_are_the_same(name, rounding):
    """By inductor, half a minute each."""
    torch.compiler.reset()
    x = torch.cat([ordinary(torch.float32)[:, :64], extremes(torch.float32)])
    compiled = torch.compile(lambda y: fake_quantize(y, name, None, rounding), fullgraph=False)
    assert_same(compiled(x), fake_quantize(x, name, None, rounding), x)
    torch.compiler.reset()


def test_a_second_derivative_is_refused():
    x = normals(1, 32, 72).float().requires_grad_()
    (first,) = torch.autograd.grad(fake_quantize(x, "mxfp4").square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_no_graph_is_kept_where_none_is_asked_for():
    x = ordinary(torch.float32)
    assert not fake_quantize(x, "mxfp4").requires_grad
    needs = x.clone().requires_grad_()
    with torch.no_grad():
        assert not fake_quantize(needs, "mxfp4").requires_grad
        assert fake_quantize(needs, "mxfp4", out=torch.empty_like(x)) is not None
    with pytest.raises(ValueError, match="out= with a tensor that requires a gradient"):
        fake_quantize(needs, "mxfp4", out=torch.empty_like(x))
    with pytest.raises(ValueError, match="out= with a tensor that requires a gradient"):
        fake_quantize(x, "mxfp4", out=needs)


def test_empty_tensors_have_gradients_too():
    for shape in ((0, 32), (3, 0)):
        x = torch.empty(shape, requires_grad=True)
        fake_quantize(x, "mxfp4", saturation_mask=True).sum().backward()
        assert x.grad.shape == shape
    alone = torch.tensor(1.3, requires_grad=True)
    fake_quantize(alone, "int4", saturation_mask=True).backward()
    assert alone.grad == 1
