"""The statistics of what is drawn: moments, rates, independence, and the relative error that a model states."""

import pytest
import torch

from harness.numerics.error_models import perturb
from harness.numerics.faults import SPIKE_SALT
from harness.numerics.keyed_random import LARGEST_DRAW, below, normals
from harness.spec.errors import AbsoluteGaussian, BitFlip, Nondeterministic, RelativeGaussian, Spike, StuckAt
from suites.unit.numerics.perturbing import MODELS, key_for, label

pytestmark = pytest.mark.unit
SHAPE = (800, 1000)
N = SHAPE[0] * SHAPE[1]
STATED = [model for model in MODELS if model.expected_relative_rms(0.05) is not None]


def moments(z):
    """Mean, variance and fourth moment, each in standard errors from that of a standard normal."""
    n = z.numel()
    return (
        (z.mean() * n**0.5).item(),
        ((z.square().mean() - 1) * (n / 2) ** 0.5).item(),
        (((z**4).mean() - 3) * (n / 96) ** 0.5).item(),
    )


@pytest.mark.parametrize("model", [RelativeGaussian(0.25), AbsoluteGaussian(0.25), Nondeterministic(0.25)], ids=label)
def test_gaussian_moments(model):
    x = torch.full(SHAPE, 1.5)
    error = perturb(model, x, key_for(*SHAPE)).double() - 1.5
    z = error / (0.25 if isinstance(model, AbsoluteGaussian) else 0.25 * 1.5)
    assert all(abs(sigmas) < 5 for sigmas in moments(z))
    assert 3.5 < z.abs().max() < LARGEST_DRAW + 1e-4


@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("model", STATED, ids=label)
def test_the_stated_relative_error_is_what_is_measured(model, level):
    """RMS of (y' - y) / y over non-zero elements; a relative standard error of sqrt(2 / n) / 2."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    x[:, ::50] = 0.0
    after = perturb(model, x, key_for(*SHAPE), level).double()
    nonzero = x != 0
    assert (after[~nonzero] == 0).all()
    measured = ((after - x) / x)[nonzero].square().mean().sqrt().item()
    assert abs(measured / model.expected_relative_rms(level) - 1) < 5 * (2 / nonzero.sum().item()) ** 0.5 / 2


def test_models_that_state_a_relative_error():
    assert {model.name for model in STATED} == {"relative_gaussian", "nondeterministic", "relative_bias"}


def test_bf16_adds_its_own_rounding_and_no_bias():
    """Rounding to 8 bits adds an error of at most 2**-9 relative, independent of the noise."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).bfloat16()
    after = perturb(RelativeGaussian(0.05), x, key_for(*SHAPE)).double()
    relative = (after - x.double()) / x.double()
    measured = relative.square().mean().sqrt().item()
    slack = 5 * 0.05 * (2 / N) ** 0.5 / 2
    assert 0.05 - slack < measured < (0.05**2 + 2**-18) ** 0.5 + slack
    assert abs(relative.mean()) < 5 * measured / N**0.5


def within_five_sigma(count, rate, trials):
    return abs(count - rate * trials) < 5 * (rate * (1 - rate) * trials) ** 0.5


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5])
@pytest.mark.parametrize("model", [Spike(), BitFlip(bit=9)], ids=label)
def test_the_rate_of_hit_elements(model, rate):
    x = torch.ones(SHAPE)
    hit = perturb(model, x, key_for(*SHAPE), rate) != x
    # a spike is exactly 1 or x with probability 0; a draw of 0 is a spike of 0, which differs from 1
    assert within_five_sigma(hit.sum().item(), rate, N)
    by_row, by_column = hit.double().mean(1), hit.double().mean(0)
    for shares, trials in ((by_row, SHAPE[1]), (by_column, SHAPE[0])):
        assert abs(shares.var().item() / (rate * (1 - rate) / trials) - 1) < 0.35


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5])
def test_the_rate_of_stuck_features(rate):
    features = 400_000
    stuck = perturb(StuckAt(rate, 3.0), torch.ones(1, features), key_for(1, features)) == 3.0
    assert within_five_sigma(stuck.sum().item(), rate, features)


@pytest.mark.parametrize("rate", [0.01, 0.5])
def test_the_height_of_a_spike_does_not_depend_on_where_it_strikes(rate):
    key = key_for(*SHAPE)
    x = torch.ones(SHAPE)
    x[:, 0] = float("inf")  # so that it is no spike itself
    after = perturb(Spike(rate, 4.0), x, key)
    hit = below(*key, rate)
    hit[:, 0] = False
    assert torch.equal(after != x, hit)
    assert all(abs(sigmas) < 5 for sigmas in moments(after[hit].double() / 4.0))


def test_the_height_of_a_spike_is_not_the_draw_of_another_model():
    """The same key serves several models: neither the first draw nor its bits may show in the salted one."""
    key = key_for(*SHAPE)
    first, second = normals(*key).double(), normals(key.rows, key.columns.salted(SPIKE_SALT)).double()
    assert abs((first * second).mean()) < 5 / N**0.5
    assert abs((first.square() * second.square()).mean() - 1) < 5 * 8**0.5 / N**0.5
