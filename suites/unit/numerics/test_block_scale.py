"""The scale of a block, by hand and at the ends of the range."""

import math
from fractions import Fraction

import pytest
import torch

from harness.numerics.block_scale import block_scale, power_of_two, real_scale, shared_exponent, tensor_scale
from harness.spec.formats import ELEMENTS, SCALE_RULES

pytestmark = pytest.mark.unit
E2M1, E4M3, INT8 = ELEMENTS["fp4_e2m1"], ELEMENTS["fp8_e4m3"], ELEMENTS["int8"]
MX_ELEMENTS = ["fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "mx_int8"]


def exponents(values, rule, element=E2M1, dtype=torch.float32):
    return shared_exponent(torch.tensor(values, dtype=dtype), element, rule).tolist()


def test_the_four_rules_by_hand():
    """Of E2M1, whose largest value is 6 = 1.5 * 2**2."""
    largest = [4.0, 5.0, 6.0, 6.01, 6.99, 7.0, 7.99, 8.0]
    assert exponents(largest, "floor") == [0, 0, 0, 0, 0, 0, 0, 1]
    assert exponents(largest, "even") == [0, 0, 0, 0, 0, 1, 1, 1]
    assert exponents(largest, "ceil") == [0, 1, 1, 1, 1, 1, 1, 1]
    assert exponents(largest, "rceil") == [0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("name", MX_ELEMENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rules_are_their_definitions_in_exact_arithmetic(name, dtype):
    element = ELEMENTS[name]
    values = torch.logspace(-20, 20, 997, base=2, dtype=dtype).tolist()
    values += [element.largest, math.nextafter(element.largest, 0), 2.0, 1.0, 0.75]
    values = torch.tensor(values, dtype=dtype).tolist()
    found = {rule: exponents(values, rule, element, dtype) for rule in SCALE_RULES}
    for at, value in enumerate(map(Fraction, values)):
        floor = math.frexp(value)[1] - 1
        rounded = round(value / Fraction(2) ** (floor - element.mantissa_bits))  # half to even
        assert found["floor"][at] == floor - element.largest_exponent
        assert found["even"][at] == floor + (rounded >= 2 ** (element.mantissa_bits + 1)) - element.largest_exponent
        assert found["ceil"][at] == floor + (value > Fraction(2) ** floor) - element.largest_exponent
        least = found["rceil"][at]
        assert value <= Fraction(element.largest) * Fraction(2) ** least
        assert value > Fraction(element.largest) * Fraction(2) ** (least - 1)


def test_zero_and_the_ends_of_the_range():
    tiny = 2.0**-149
    for rule in SCALE_RULES:
        assert exponents([0.0, tiny, 2.0**-126], rule) == [-127, -127, -127]
        assert exponents([2.0**127], rule, ELEMENTS["mx_int8"]) == [127]
        assert exponents([1e-300, 1e300], rule, dtype=torch.float64) == [-127, 127]
    top = torch.finfo(torch.float32).max
    assert exponents([top], "ceil", ELEMENTS["mx_int8"]) == [127], "128 does not exist"
    assert [exponents([top], rule)[0] for rule in SCALE_RULES] == [125, 126, 126, 126]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_powers_of_two_are_exact(dtype):
    power = torch.arange(-127, 128, dtype=torch.int32)
    assert power_of_two(power, dtype).tolist() == [2.0**value for value in range(-127, 128)]


def test_real_scales_are_never_zero():
    found = real_scale(torch.tensor([127.0, 0.0, 1e-45, 254.0]), INT8)
    assert found.tolist() == [1.0, 2.0**-149, 2.0**-149, 2.0]


def test_the_tensor_scale_puts_the_largest_block_at_448():
    largest = torch.tensor(2688.0)
    outer = tensor_scale(largest, E2M1)
    assert outer.item() == 1.0
    blocks = torch.tensor([2688.0, 1344.0, 6.0, 6 * 2.0**-9, 6 * 2.0**-12, 0.0, 2688.0 * 2])
    assert block_scale(blocks, E2M1, outer).tolist() == [448, 224, 1, 2.0**-9, 2.0**-9, 2.0**-9, 448]


def test_block_scales_round_to_nearest_even_of_e4m3():
    wanted = torch.tensor([1.0625, 1.1875, 17.0, 19.0, 2.5 * 2.0**-9])
    assert block_scale(wanted * 6, E2M1, torch.ones(1)).tolist() == [1.0, 1.25, 16.0, 20.0, 2 * 2.0**-9]


def test_a_small_tensor_has_a_scale_with_a_finite_reciprocal():
    """0 * infinity would make zeros NaN."""
    for largest in (0.0, 2.0**-149, 2.0**-109):
        outer = tensor_scale(torch.tensor(largest), E2M1)
        inner = block_scale(torch.zeros(1), E2M1, outer)
        assert (1 / outer / inner).isfinite().all()
