"""Rounding to elements by hand: ties, subnormals, saturation, and the three ways."""

import math

import pytest
import torch

from harness.numerics.keyed_random import DrawKey, Keys, counter_keys
from harness.numerics.rounding import round_to, spacing, uniform
from harness.spec.formats import ELEMENTS

pytestmark = pytest.mark.unit
E2M1, E4M3, INT4 = ELEMENTS["fp4_e2m1"], ELEMENTS["fp8_e4m3"], ELEMENTS["int4"]
both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def key(rows, columns):
    first, second = torch.arange(rows).view(-1, 1), torch.arange(columns).view(1, -1)
    return DrawKey(Keys.of(counter_keys(1, first)), Keys.of(counter_keys(2, second)))


@both
def test_ties_of_e2m1_go_to_the_even_code(dtype):
    x = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 0.2499, 0.2501, 5.01], dtype=dtype)
    want = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 0.0, 0.5, 6.0]
    assert round_to(x, E2M1).tolist() == want
    assert round_to(-x, E2M1).tolist() == [-value for value in want]
    assert torch.signbit(round_to(-x, E2M1)).all()


@both
def test_integers_tie_to_even_and_saturate(dtype):
    x = torch.tensor([0.5, 1.5, 2.5, 6.5, 7.49, 100.0, -0.5, -1.5], dtype=dtype)
    assert round_to(x, INT4).tolist() == [0, 2, 2, 6, 7, 7, 0, -2]


@both
def test_subnormals_of_e4m3_are_multiples_of_the_least(dtype):
    least = 2.0**-9
    x = torch.tensor([0.5, 0.51, 1.5, 2.5, 7.5, 8.5, 0.3], dtype=dtype) * least
    assert (round_to(x, E4M3) / least).tolist() == [0, 1, 2, 2, 8, 8, 0]


@both
def test_toward_zero_cuts(dtype):
    x = torch.tensor([0.49, 0.5, 0.99, 1.49, 2.99, 5.99, 7.0, -3.9, 0.0, -0.0], dtype=dtype)
    after = round_to(x, E2M1, "toward_zero")
    assert after.tolist() == [0, 0.5, 0.5, 1, 2, 4, 6, -3, 0, 0]
    assert torch.equal(torch.signbit(after), torch.signbit(x))


@pytest.mark.parametrize(
    "name", ["fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "int8", "int4", "mx_int8"]
)
def test_every_value_stays_under_every_rounding(name):
    element = ELEMENTS[name]
    x = torch.tensor([[*element.magnitudes, *(-value for value in element.magnitudes)]])
    for rounding in ("nearest_even", "toward_zero", "stochastic"):
        after = round_to(x, element, rounding, key(1, x.shape[1]))
        assert torch.equal(after, x) and torch.equal(torch.signbit(after), torch.signbit(x))


def test_spacing_is_the_step_of_the_binade():
    x = torch.tensor([0.0, 0.3, 0.9, 1.0, 1.9, 2.0, 3.9, 4.0, 6.0])
    assert spacing(x, E2M1).tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, 1, 1, 2, 2]
    assert spacing(x.double(), INT4).tolist() == [1.0] * 9


def test_stochastic_goes_up_in_proportion():
    rows, columns = 400, 400
    for value, low, high in ((1.1, 1, 1.5), (0.05, 0, 0.5), (5.5, 4, 6), (-3.25, -3, -4)):
        after = round_to(torch.full((rows, columns), value), E2M1, "stochastic", key(rows, columns))
        assert set(after.unique().tolist()) == {low, high}
        share, want = (after == high).double().mean().item(), (value - low) / (high - low)
        assert share == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / (rows * columns)))


def test_stochastic_reads_a_draw_as_a_share_of_the_step():
    """Up exactly where the uniform draw is less than the distance to the lower neighbour."""
    x = torch.linspace(0, 6, 1000).view(10, 100)
    draws = key(10, 100)
    step = spacing(x, E2M1)
    low = (x / step).floor() * step
    want = torch.where(uniform(draws) < (x - low) / step, low + step, low)
    assert torch.equal(round_to(x, E2M1, "stochastic", draws), want)


def test_uniform_draws_fill_the_unit_interval():
    draws = uniform(key(500, 500)).double()
    assert draws.min() >= 0 and draws.max() < 1
    assert draws.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / draws.numel()))
    assert torch.equal((draws * 2**24).frac(), torch.zeros_like(draws))


def test_what_is_given_is_not_changed():
    x = torch.tensor([0.3, 7.0])
    round_to(x, E2M1)
    assert x.tolist() == [pytest.approx(0.3), 7.0]
