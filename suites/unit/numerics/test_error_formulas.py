"""Each formula against an independent reference in float64, and the corners of each."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.numerics.error_models import perturb, relative_gaussian
from harness.numerics.keyed_random import DrawKey, Keys, below, normals
from harness.spec.errors import (
    AbsoluteSaturation,
    BitFlip,
    Deadzone,
    FakeQuant,
    Nondeterministic,
    RelativeGaussian,
    Saturation,
    Spike,
    SpreadBias,
    StuckAt,
    SystematicBias,
    Truncation,
)
from harness.spec.faults import BitFlips, FaultMix, StuckLane
from suites.unit.numerics.perturbing import (
    DTYPES,
    FORMAT_SHAPES,
    MODELS,
    all_sorts,
    key_for,
    label,
    pattern,
    reference,
    rounded,
    same_bits,
)

pytestmark = pytest.mark.long
BITS = (BitFlip, BitFlips, StuckLane, FaultMix)
WITH_REFERENCE = [
    model for model in MODELS if not isinstance(model, BITS) and getattr(model, "format", "bf16") in FORMAT_SHAPES
]
"""Block formats have theirs in test_format_oracles.py, faults of bits and lanes in suites/unit/noise/replay."""
EXACT = (Truncation, AbsoluteSaturation, StuckAt, FakeQuant)


def values(width):
    """Tensors of 1 to 3 dimensions, with NaN, infinity and both zeros among moderate values of all sizes."""
    usual = st.floats(-100, 100, width=width) | st.floats(-(2.0**99), 2.0**99, width=width)
    special = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 0.5, -2.0])
    shapes = arrays.array_shapes(max_dims=3, max_side=6)
    return arrays.arrays(f"float{width}", shapes, elements=usual | special).map(torch.from_numpy)


def check(model, x):
    key = key_for(*x.shape)
    after = perturb(model, x, key).double().numpy()
    want = reference(model, x, key)
    if isinstance(model, EXACT):
        np.testing.assert_array_equal(after, want.astype(after.dtype) if x.dtype == torch.float64 else np.float32(want))
        return
    y = x.double().numpy()
    finite = np.isfinite(y)
    largest = np.max(np.where(finite, np.abs(y), 0), -1, keepdims=True)
    with np.errstate(invalid="ignore"):
        tolerance = 4 * torch.finfo(x.dtype).eps * (np.abs(y) + np.abs(want) + largest * model.row_statistic) + 1e-44
        if isinstance(model, Deadzone):  # a tie within rounding may fall to either side
            finite &= np.abs(np.abs(y) - model.level * largest) > tolerance
        assert (np.abs(after - want) <= tolerance)[finite].all()
    np.testing.assert_array_equal(after[~np.isfinite(y)], y[~np.isfinite(y)])


@pytest.mark.parametrize("model", WITH_REFERENCE, ids=label)
@settings(deadline=None, max_examples=40)
@given(x=values(32))
def test_float32_is_the_formula(model, x):
    check(model, x)


@pytest.mark.parametrize("model", WITH_REFERENCE, ids=label)
@settings(deadline=None, max_examples=40)
@given(x=values(64))
def test_float64_is_the_formula_in_float64(model, x):
    check(model, x)


@pytest.mark.parametrize("model", [RelativeGaussian(0.05), Nondeterministic(0.05)], ids=label)
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
def test_relative_noise_is_what_the_compiled_kernel_adds(model, dtype):
    """Bitwise, over every pattern, but for NaN, whose payload only ``perturb`` keeps."""
    x = all_sorts(dtype)
    key = key_for(256, 256)
    want = relative_gaussian(x, torch.tensor(0.05) * normals(*key))
    numbers = ~x.isnan()
    assert same_bits(perturb(model, x, key)[numbers], want[numbers])
    assert relative_gaussian(x, torch.zeros(256, 256)).isnan().equal(x.isnan())


def test_float64_keeps_what_float32_cannot_hold():
    x = torch.tensor([1 + 2**-40, 1e300, 1e-300], dtype=torch.float64)
    after = perturb(RelativeGaussian(2**-45), x, key_for(3))
    assert (after != x).all()
    assert torch.allclose(after, x, rtol=2**-42, atol=0)


def test_systematic_bias_leaves_both_zeros():
    x = torch.tensor([0.0, -0.0, 1e-45, -1e-45])
    after = perturb(SystematicBias(0.5), x, key_for(4))
    assert same_bits(after, torch.tensor([0.0, -0.0, 0.5, -0.5]))


def test_spread_is_of_the_population_and_of_finite_elements_only():
    x = torch.tensor([[1.0, 3.0, math.nan, math.inf], [5.0, 5.0, 5.0, 5.0], [2.0, math.nan, math.nan, math.nan]])
    after = perturb(SpreadBias(0.5), x, key_for(3, 4))
    assert after[:, 0].tolist() == [1.5, 5.0, 2.0]
    assert after[0].tolist()[1:2] == [3.5]


def test_spread_of_values_whose_squares_overflow():
    x = torch.tensor([1e30, -1e30])
    assert perturb(SpreadBias(1), x, key_for(2)).tolist() == [torch.tensor(1e30).mul(2).item(), 0.0]


def test_row_statistics_are_of_a_row():
    x = torch.tensor([[1.0, -4.0, math.inf], [1.0, 2.0, math.nan]])
    after = perturb(Deadzone(0.4), x, key_for(2, 3))
    assert after[:, :2].tolist() == [[0.0, -4.0], [1.0, 2.0]]
    after = perturb(Saturation(0.25), x, key_for(2, 3))
    assert after[:, :2].tolist() == [[1.0, -3.0], [1.0, 1.5]]
    after = perturb(Spike(1.0, 10.0), x, key_for(2, 3))
    ten_times = perturb(Spike(1.0, 10.0), torch.ones(2, 3), key_for(2, 3))
    assert torch.allclose(after[:, :2], ten_times[:, :2] * torch.tensor([[4.0], [2.0]]))


def test_the_edge_of_the_deadzone_is_outside():
    x = torch.tensor([8.0, 4.0, -4.0, 3.9999998])
    assert perturb(Deadzone(0.5), x, key_for(4)).tolist() == [8.0, 4.0, -4.0, 0.0]


def test_a_spike_may_be_infinite_but_not_nan():
    x = torch.full((300, 300), 3e38)
    after = perturb(Spike(1.0, 1e30), x, key_for(300, 300))
    assert not after.isnan().any()
    assert (after == 0).any() and after.isinf().any()


@settings(deadline=None)
@given(y=st.floats(allow_nan=False, allow_infinity=False, width=32), step=st.floats(2.0**-126, 2.0**126, width=32))
@example(y=9999998.0, step=0.716796875)  # the multiple lies between two floats that are a step apart and more
def test_truncation_of_any_value_by_any_step(y, step):
    """Never away from zero, never by more than a step and the rounding of the result; values that dwarf it stay."""
    x = torch.tensor([y])
    check(Truncation(step), x)
    after = perturb(Truncation(step), x, key_for(1))
    rounding = float(np.spacing(np.float32(abs(y)))) / 2
    assert abs(after.item()) <= abs(y) and abs(after.double().item() - y) <= step + rounding
    assert torch.signbit(after).item() == (math.copysign(1, y) < 0)
    if abs(y) > step * 2**25:
        assert after.item() == y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_truncation_where_the_quotient_overflows(dtype):
    """Enough elements for the vectorised remainder, which is NaN there."""
    top = torch.finfo(dtype).max
    x = torch.tensor([top, -top], dtype=dtype).repeat(100)
    assert same_bits(perturb(Truncation(1e-30), x, key_for(200)), x)


def test_truncation_does_not_round_up_to_the_next_multiple():
    """0.7 / 0.1 is 7 in float32, but 0.7 there is less than seven steps."""
    assert perturb(Truncation(0.1), torch.tensor([0.7]), key_for(1)).item() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("dtype", "bit"),
    [(dtype, bit) for dtype in DTYPES for bit in (0, 3, 7, 10, 14, 15, 22, 30, 31) if bit < torch.finfo(dtype).bits],
    ids=str,
)
def test_a_flip_inverts_one_bit_and_twice_is_nothing(dtype, bit):
    width = torch.finfo(dtype).bits
    x, key = all_sorts(dtype), key_for(256, 256)
    once = perturb(BitFlip(0.5, bit), x, key)
    hit = below(*key, 0.5) & x.isfinite()
    mask = 1 << bit if bit < width - 1 else -(1 << bit)
    assert torch.equal(pattern(x) ^ pattern(once), torch.where(hit, mask, 0).to(pattern(x).dtype))
    back = once.isfinite() | ~hit  # a flip that made NaN or infinity is kept, as any other
    assert same_bits(perturb(BitFlip(0.5, bit), once, key)[back], x[back])


@pytest.mark.parametrize(("dtype", "bit"), [(torch.float32, 30), (torch.bfloat16, 14), (torch.float16, 14)], ids=str)
def test_a_flip_of_the_top_exponent_bit_may_give_infinity(dtype, bit):
    assert perturb(BitFlip(1.0, bit), torch.ones(1, dtype=dtype), key_for(1)).isinf().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", FORMAT_SHAPES)
def test_every_16_bit_value_rounds_to_the_format(name, dtype):
    x = all_sorts(dtype)
    after = perturb(FakeQuant(name), x, key_for(256, 256))
    want = rounded(x.double().numpy(), name)
    # the value of the format, rounded to the dtype: 65504 is 65536 in bf16, and 65536 (bf16) is infinite in fp16
    want = torch.from_numpy(want).to(dtype)
    np.testing.assert_array_equal(after.double().numpy(), want.double().numpy())
    assert torch.equal(after.isfinite(), x.isfinite() & want.isfinite())
    assert same_bits(perturb(FakeQuant(name), after, key_for(256, 256)), after)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", FORMAT_SHAPES)
def test_any_value_rounds_to_the_format_without_overflow(name, dtype):
    x = all_sorts(dtype)
    after = perturb(FakeQuant(name), x, key_for(256, 256))
    np.testing.assert_array_equal(after.double().numpy(), rounded(x.double().numpy(), name))
    assert torch.equal(after.isfinite(), x.isfinite())
    assert torch.equal(torch.signbit(after), torch.signbit(x))


@pytest.mark.parametrize("name", FORMAT_SHAPES)
def test_ties_go_to_even_and_float64_is_not_rounded_twice(name):
    half = 2.0 ** -(FORMAT_SHAPES[name][0] + 1)
    near = [1 + half, 1 + half + 2**-45, 1 + half - 2**-45, 1 + 3 * half, 1 + 3 * half - 2**-45]
    x = torch.tensor([*near, *(-v for v in near)], dtype=torch.float64)
    want = [1.0, 1 + 2 * half, 1.0, 1 + 4 * half, 1 + 2 * half]
    assert perturb(FakeQuant(name), x, key_for(10)).tolist() == [*want, *(-v for v in want)]


def test_what_is_not_finite_spoils_its_block_and_no_other():
    x = torch.ones(2, 70)
    x[0, 3], x[1, 69] = math.inf, math.nan
    after = perturb(FakeQuant("mxfp4"), x, key_for(2, 70))
    assert after[0, 3] == math.inf, "what is not finite keeps its bits"
    assert torch.equal(
        after.isnan().nonzero(), torch.tensor([[0, c] for c in range(32) if c != 3] + [[1, c] for c in range(64, 70)])
    )


def test_a_tensor_scale_is_that_of_the_row_and_tiles_are_refused():
    x = torch.tensor([[1.0, 0.3], [1000.0, 300.0]]).repeat(1, 8)
    both = perturb(FakeQuant("nvfp4"), x, key_for(2, 16))
    assert same_bits(both[:1], perturb(FakeQuant("nvfp4"), x[:1], key_for(1, 16)))
    with pytest.raises(ValueError, match="nvfp4_16x16 for single rows; its tiles span several"):
        perturb(FakeQuant("nvfp4_16x16"), x, key_for(2, 16))


def test_every_rounding_is_applied_and_stochastic_follows_the_key():
    x = torch.full((64, 64), 1.3)
    x[:, 0] = 6
    near, cut = (
        perturb(FakeQuant("mxfp4", None, name), x, key_for(64, 64)) for name in ("nearest_even", "toward_zero")
    )
    assert (near[:, 1:32] == 1.5).all() and (cut[:, 1:32] == 1).all()
    drawn, again, other = (
        perturb(FakeQuant("mxfp4", None, "stochastic"), x, key_for(64, 64, rows=name)) for name in "aab"
    )
    assert same_bits(drawn, again) and not same_bits(drawn, other)
    # 1 or 1.5 with probability 0.6 of the latter; 1984 draws, four standard errors
    assert (drawn[:, 1:32] == 1.5).double().mean().item() == pytest.approx(0.6, abs=4 * math.sqrt(0.24 / 1984))


def test_stuck_features_are_the_same_in_every_row_and_under_every_row_key():
    x = torch.randn(50, 400, generator=torch.Generator().manual_seed(0))
    stuck = perturb(StuckAt(0.2, 7.0), x, key_for(50, 400)) == 7.0
    assert (stuck == stuck[0]).all()
    assert 0 < stuck[0].sum() < 400
    other = perturb(StuckAt(0.2, 7.0), x, key_for(50, 400, rows="other")) == 7.0
    assert torch.equal(stuck, other)


@given(rate=st.floats(0, 1), more=st.floats(0, 1))
def test_what_fails_at_a_rate_fails_at_every_larger_one(rate, more):
    key = DrawKey(Keys.of(torch.arange(50).view(-1, 1)), Keys.of(torch.arange(40)))
    less, larger = sorted((rate, more))
    assert not (below(*key, less) & ~below(*key, larger)).any()
