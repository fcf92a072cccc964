"""What must hold of every quantizer on any input, by hypothesis; and where it stops to hold, an example of that."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.numerics import compiled_c, fake_quantize, quantizer
from harness.numerics.blocks import largest_of_rows, outer_scale, quantize
from harness.numerics.keyed_random import DrawKey, Keys
from harness.numerics.quant_measure import measure_quantization
from harness.spec.formats import FORMATS, ROUNDINGS, Recipe
from suites.contract.format_checks import assert_same, differing
from suites.contract.format_data import DTYPES, drawn_bits, normals, ordinary
from suites.contract.format_reference import MX, NVFP4, REAL, RULES, UNSCALED, codes

pytestmark = pytest.mark.contract
every_format = pytest.mark.parametrize("name", FORMATS)
few = settings(deadline=None, max_examples=15)
more = settings(deadline=None, max_examples=40)
rules, roundings = st.sampled_from(RULES), st.sampled_from(ROUNDINGS)
ULP = 2.0**-23


@st.composite
def matrices(draw, columns=70):
    """Float32 (rows, columns): values of one size or of very different ones, zeros of both signs, repeated values."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, columns)))
    spread = draw(st.sampled_from([0, 3, 30]))
    sizes = draw(arrays.arrays("int32", shape, elements=st.integers(-spread, spread)))
    significands = draw(arrays.arrays("float32", shape, elements=st.floats(-2, 2, width=16)))
    return torch.ldexp(torch.from_numpy(significands), torch.from_numpy(sizes))


def rule_of(name, rule):
    return rule if name in MX else None


def fixed_scale(name, x):
    """(the values, those of the codes that each element could have, (rows, columns, codes)) in float64."""
    after = quantize(x, Recipe.of(name))
    fmt = FORMATS[name]
    scales = after.scales
    height, width = (-(-x.shape[axis] // scales.shape[axis]) for axis in (0, 1))
    height, width = fmt.rows or height, fmt.columns or width
    if fmt.scale == "none":
        height = width = 1
    if fmt.rows == 0:  # one scale for all
        height, width = 1, 1
        scales = scales.expand(x.shape)
    each = scales.repeat_interleave(height, 0).repeat_interleave(width, 1)[: x.shape[0], : x.shape[1]]
    grid = torch.from_numpy(codes(fmt.element.name)).float()
    grid = torch.cat([grid, -grid])
    return after.values.double(), (grid * each[..., None]).double()


# scaling


@pytest.mark.parametrize("name", [*MX, *NVFP4, *REAL])
@few
@given(x=matrices(), power=st.integers(-40, 40), rule=rules, rounding=roundings)
def test_scaled_formats_commute_with_powers_of_two(name, rounding, x, power, rule):
    """Bitwise, while neither exponents of scales nor float32 run out."""
    factor, how = torch.tensor(power), (name, rule_of(name, rule), rounding)
    assert_same(fake_quantize(torch.ldexp(x, factor), *how), torch.ldexp(fake_quantize(x, *how), factor), x)


@few
@given(scale=st.floats(2.0**-60, 2.0**60, width=32), name=st.sampled_from(list(NVFP4)))
@example(scale=0.01, name="nvfp4")
def test_nvfp4_does_not_care_about_the_scale(scale, name):
    x = normals(64, 512, 31).float()
    before, after = (measure_quantization(y, Recipe.of(name)) for y in (x, x * scale))
    assert after.sqnr_db == pytest.approx(before.sqnr_db, abs=0.02)
    assert after.dead_zone == pytest.approx(before.dead_zone, abs=0.002)


@every_format
@few
@given(x=matrices(), rounding=roundings, key=st.integers(0, 2**63 - 1))
def test_signs_are_symmetric(name, rounding, x, key):
    one, other = (fake_quantize(y, name, None, rounding, key=key) for y in (x, -x))
    assert_same(-other, one, x)


# idempotence


@pytest.mark.parametrize("name", MX)
@more
@given(x=matrices(), rule=rules, rounding=roundings, key=st.integers(0, 2**63 - 1))
def test_mx_is_idempotent(name, rule, rounding, x, key):
    """Bitwise under floor, even, ceil and rceil and every rounding, but E4M3 under even away from nearest even.

    The rounded largest either keeps the scale, or halves it (ceil, rceil) and with it all values stay in range. Only
    where even has rounded a largest up that the element's rounding then cuts to 2 - 2**-3 (E4M3: 480) does the
    second scale lose it, since 448 is the largest there.
    """
    for dtype in (torch.float32, torch.bfloat16):
        once = fake_quantize(x.to(dtype), name, rule, rounding, key=key)
        twice = fake_quantize(once, name, rule, rounding, key=key + 1)
        if (name, rule) == ("mxfp8_e4m3", "even") and rounding != "nearest_even":
            clipped = once.abs() > twice.abs()
            once, twice = once[~clipped], twice[~clipped]
        assert_same(twice, once, once)


def test_even_without_nearest_even_is_not_idempotent_in_e4m3():
    x = torch.full((1, 32), 1.95)
    once = fake_quantize(x, "mxfp8_e4m3", "even", "toward_zero")
    twice = fake_quantize(once, "mxfp8_e4m3", "even", "toward_zero")
    assert once[0, 0] == 1.875 and twice[0, 0] == 1.75


@pytest.mark.parametrize("name", UNSCALED)
@few
@given(x=matrices(), rounding=roundings)
def test_unscaled_formats_are_idempotent(name, rounding, x):
    once = fake_quantize(x, name, None, rounding)
    assert_same(fake_quantize(once, name, None, rounding, key=1), once, x)


@pytest.mark.parametrize("name", REAL)
@more
@given(x=matrices())
def test_real_scales_are_idempotent_but_for_ulps(name, x):
    """127 * (amax / 127) is amax but for an ulp, and so is the second scale; the codes are the same."""
    once = fake_quantize(x, name)
    twice = fake_quantize(once, name)
    assert ((once - twice).abs() <= 2 * ULP * once.abs()).all()


@pytest.mark.parametrize("name", NVFP4)
@more
@given(x=matrices(), scale=st.floats(2.0**-60, 2.0**60, width=32))
@example(x=torch.tensor([[0.25, 1.7812]]), scale=25309640.0)
def test_nvfp4_is_idempotent_under_normal_block_scales(name, x, scale):
    """In bf16 and fp16 bitwise. In float32 the tensor scale moves by an ulp at most, and with it each value by up to
    three: a product of two scales and a product with a code are rounded after it. The codes are the same.

    A subnormal E4M3 scale is up to half off, so that its block's largest may not come back to 6.
    """
    recipe = Recipe.of(name)
    x = x.clamp(-(2.0**30), 2.0**30) * scale
    lower = x / x.abs().max().clamp(min=2.0**-60) * 7
    for once in (x, lower.bfloat16(), lower.half()):
        normal = block_scales(name, once, recipe) >= 2.0**-6
        after = fake_quantize(once, name)
        again = fake_quantize(after, name)
        slack = 3 * ULP if once.dtype == torch.float32 else 0.0
        assert ((after - again).abs() <= slack * after.abs())[normal].all()
        if once.dtype == torch.float32:
            before, behind = (outer_of(recipe, y).view(torch.int32) for y in (once, after))
            assert abs(before - behind) <= 1
            assert torch.equal(codes_of(name, once, recipe)[normal], codes_of(name, after, recipe)[normal])


def outer_of(recipe, x):
    """The tensor scale."""
    return outer_scale(recipe.format, largest_of_rows(x))


def block_scales(name, x, recipe):
    """The E4M3 scale of the block of each element."""
    found = quantize(x, recipe).scales / outer_of(recipe, x)
    height, width = FORMATS[name].rows, FORMATS[name].columns
    return found.repeat_interleave(height, 0).repeat_interleave(width, 1)[: x.shape[0], : x.shape[1]]


def codes_of(name, x, recipe):
    """The elements in units of their scale, after rounding."""
    return (quantize(x, recipe).values / (block_scales(name, x, recipe) * outer_of(recipe, x))).mul(2).round()


# order and grid


@every_format
@few
@given(x=matrices(columns=16), rule=rules, rounding=st.sampled_from(["nearest_even", "toward_zero"]))
def test_within_a_block_order_is_kept(name, rounding, x, rule):
    row = x.flatten()[:16].sort().values
    after = fake_quantize(row, name, rule_of(name, rule), rounding)
    assert (after.diff() >= 0).all()


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("bf16", "fp16")])
@few
@given(x=matrices())
def test_values_are_codes_times_the_scale_and_the_nearest_of_them(name, x):
    values, candidates = fixed_scale(name, x)
    y = x.double()
    assert (values[..., None] == candidates).any(-1).all()
    best = (candidates - y[..., None]).abs().amin(-1)
    slack = 0.0 if name in MX or name in UNSCALED else 4 * ULP
    assert ((values - y).abs() <= best + slack * y.abs()).all()


@every_format
@few
@given(x=matrices(), rule=rules)
def test_toward_zero_never_goes_away_from_it(name, x, rule):
    """Exactly, but for a real scale, whose product may round up."""
    after = fake_quantize(x, name, rule_of(name, rule), "toward_zero")
    slack = 0.0 if name in MX or name in UNSCALED else 2 * ULP
    assert (after.abs() <= x.abs() * (1 + slack)).all()
    near = fake_quantize(x, name, rule_of(name, rule))
    assert (after.abs() <= near.abs()).all()


@every_format
@few
@given(x=matrices(), dtype=st.sampled_from(DTYPES), rounding=roundings)
def test_zeros_stay_zeros_with_their_sign(name, rounding, x, dtype):
    x = x.clamp(-60000, 60000)  # of float16
    zeros = (x * 0).to(dtype)
    assert_same(fake_quantize(zeros, name, None, rounding), zeros, zeros)
    some = torch.where(drawn_bits(*x.shape) > 0, x.to(dtype), zeros)
    after = fake_quantize(some, name, None, rounding)
    assert torch.equal(torch.signbit(after), torch.signbit(some))
    assert (after[some == 0] == 0).all()


# draws


@every_format
def test_stochastic_rounding_is_unbiased(name):
    """The mean over 16,384 equal rows, each element within four standard errors, where it is not clipped."""
    x = torch.cat([normals(1, 62, 36), torch.tensor([[0.0, 3.0]])], 1).float()
    if name in ("int8", "int4", "fp6_e3m2"):
        x = x * 2
    count = 1 << 14
    many = x.expand(count, -1)
    recipe = Recipe.of(name, None, "stochastic")
    clipped = quantize(many[:64], Recipe.of(name)).saturated[0]
    after = quantizer.quantized(many, recipe, key=37).double()
    lower, upper = after.amin(0), after.amax(0)
    share = (x[0].double() - lower) / (upper - lower).clamp(min=1e-30)
    error = (upper - lower) * (share * (1 - share)).clamp(min=0).sqrt() / math.sqrt(count)
    off = (after.mean(0) - x[0]).abs()
    # a real scale is off by its own rounding; a share below 1/16384 may not have been seen
    assert (off <= 4 * error + 4 * ULP * x[0].abs() + (upper == lower) * 4e-3 * x[0].abs())[~clipped].all()
    assert ((upper > lower) & ~clipped).sum() > 40 or name in ("bf16", "fp16")
    for row in after[:5]:
        assert ((row == lower) | (row == upper)).all()


@every_format
def test_draws_follow_the_key_and_nothing_else(name):
    x = ordinary(torch.float32)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (fake_quantize(x, name, None, "stochastic", key=key) for key in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(one, same, x)
    assert differing(one, other).any()


def test_draws_of_rows_are_independent():
    """Equal rows round differently, and so do equal elements of a row; the share is that of the distance."""
    x = torch.full((256, 256), 1.25)
    x[:, ::32] = 4
    up = (fake_quantize(x, "mxfp4", None, "stochastic") == 1.5).double()[:, torch.arange(256) % 32 != 0]
    for axis in (0, 1):
        shares = up.mean(axis)
        deviation = 0.5 / math.sqrt(up.shape[axis])
        assert shares.std().item() == pytest.approx(deviation, rel=0.25)
        assert ((shares - 0.5).abs() < 5 * deviation).all()


def test_keys_may_be_given_for_each_element():
    x = ordinary(torch.float32)
    halves = [drawn_bits(*x.shape, key).contiguous() for key in range(50, 54)]
    key = DrawKey(Keys(*halves[:2]), Keys(*halves[2:]))
    after = fake_quantize(x, "mxfp4", None, "stochastic", key=key)
    part = fake_quantize(x[16:48], "mxfp4", None, "stochastic", key=key.rows_at(slice(16, 48)))
    assert_same(part, after[16:48], x[16:48])


# where it writes, and in how many parts


@every_format
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_out_may_be_x_itself(name, dtype):
    for rounding in ROUNDINGS:
        x = ordinary(dtype)
        want = fake_quantize(x, name, None, rounding)
        apart, strided = torch.empty_like(x), torch.empty_like(x.t()).t()
        for out in (apart, strided, x):
            assert fake_quantize(x, name, None, rounding, out=out) is out
            assert_same(out, want, want)


@every_format
def test_neither_threads_nor_chunks_change_a_bit(monkeypatch, name):
    x = ordinary(torch.float32)
    want = {rounding: fake_quantize(x, name, None, rounding) for rounding in ROUNDINGS}
    monkeypatch.setattr(compiled_c, "PARALLEL_FROM", 10)
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        for rounding in ROUNDINGS:
            assert_same(fake_quantize(x, name, None, rounding), want[rounding], x, threads)
    monkeypatch.setattr(quantizer, "EAGER_CHUNK", {"cpu": 3000})
    monkeypatch.setattr(quantizer.native_quantizer, "fits", lambda *given: False)
    for rounding in ROUNDINGS:
        assert_same(fake_quantize(x, name, None, rounding), want[rounding], x, "eager in small chunks")
