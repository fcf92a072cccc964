"""The formats bit for bit against independent code: ml_dtypes with exact exponents, torchao, gfloat."""

import math

import numpy as np
import pytest
import torch

from harness.numerics import fake_quantize
from harness.spec.formats import FORMATS
from suites.contract.format_checks import assert_same, ours, wanted
from suites.contract.format_data import DTYPES, extremes, mixed, normals, numpy_of, ordinary, patterns, powers, ties
from suites.contract.format_peers import (
    GFLOAT,
    MX_OF_TORCHAO,
    gfloat_element,
    gfloat_mx,
    torchao,
    torchao_element,
    torchao_mx,
    torchao_nvfp4,
)
from suites.contract.format_reference import (
    CASES,
    MX,
    NVFP4,
    REAL,
    RULES,
    VALUES,
    codes,
    element,
    exponent,
    searched,
    two_levels,
)

pytestmark = pytest.mark.contract
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
every_case = pytest.mark.parametrize(("name", "rule"), CASES)
SMALL = ("fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "int8", "int4", "mx_int8")


def element_of(name):
    return (MX | NVFP4 | REAL).get(name, (name,))[0]


def inputs(name, dtype):
    """Everything of format_data by name."""
    found = {make.__name__: make(dtype) for make in (patterns, mixed, powers, extremes, ordinary)}
    if element_of(name) in SMALL:
        found["ties"] = ties(element_of(name), dtype)
    found["finite"] = found["mixed"][found["mixed"].isfinite().all(1)]  # one NaN spoils a scale of the whole tensor
    return found


@pytest.fixture(scope="module")
def ao():
    modules = torchao()
    if modules is None:
        pytest.skip("torchao is neither installed nor in the folder oracles of this environment")
    return modules


def test_every_format_is_tried():
    assert {name for name, _ in CASES} == set(FORMATS)
    assert {(name, rule) for name, rule in CASES if name in MX} == {(name, rule) for name in MX for rule in RULES}


@every_dtype
@every_case
def test_every_format_is_the_reference(name, rule, dtype):
    """All 65,536 patterns of bf16 and fp16 in order and shuffled into blocks, random patterns of the wider dtypes;
    powers of two and neighbours, ties, subnormals, huge values, zeros, NaN and infinity."""
    for what, x in inputs(name, dtype).items():
        assert_same(ours(x, name, rule), wanted(x, name, rule), x, f"{what} {name} {rule}")


@every_dtype
@every_case
def test_blocks_never_straddle_rows(name, rule, dtype):
    for rows, columns in ((4, 40), (3, 1), (5, 33), (1, 31), (33, 65), (2, 257), (40, 16)):
        x = (normals(rows, columns, 11) * 3).to(dtype)
        assert_same(ours(x, name, rule), wanted(x, name, rule), x, (name, rule, rows, columns))


@pytest.mark.parametrize("name", FORMATS)
def test_any_number_of_dimensions_and_any_strides(name):
    x = normals(24, 45, 12).float()
    for shape in ((1080,), (24, 45), (2, 12, 45), (2, 3, 4, 45), (1, 1, 1, 1080)):
        flat = wanted(x.reshape(-1, shape[-1]), name).reshape(shape)
        assert_same(fake_quantize(x.reshape(shape), name), flat, x.reshape(shape), shape)
    assert_same(fake_quantize(x.t(), name), wanted(x.t().contiguous(), name), x.t(), "transposed")
    assert_same(fake_quantize(x[::2, 3:-1:2], name), wanted(x[::2, 3:-1:2].contiguous(), name), x[::2, 3:-1:2], "steps")
    expanded = x[:1].expand(5, -1)
    assert_same(fake_quantize(expanded, name), wanted(expanded.contiguous(), name), expanded, "expanded")
    cube = x.reshape(4, 6, 45).transpose(0, 1)
    again = wanted(cube.reshape(24, 45), name).reshape(cube.shape)
    assert_same(fake_quantize(cube, name), again, cube, "a transposed cube")
    lone = fake_quantize(torch.tensor(1.25), name)
    assert lone.shape == () and lone == wanted(torch.tensor([[1.25]]), name)
    for empty in ((0, 32), (3, 0), (0,)):
        assert fake_quantize(torch.empty(empty), name).shape == empty


@pytest.mark.parametrize(("name", "side"), [("mxfp4_32x32", 32), ("nvfp4_16x16", 16)])
@pytest.mark.parametrize("shape", [(64, 64), (40, 70), (1, 100), (100, 1)])
def test_tiles_are_tiles(name, side, shape):
    """A loop over tiles, on data whose columns differ by powers of ten: runs of the flattened tensor would show."""
    x = (normals(*shape, 13) * torch.logspace(-3, 3, shape[1]).double()).float()
    want = torch.empty_like(x)
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            tile = x[top : top + side, left : left + side]
            part, label = tile.numpy(), np.zeros(tile.shape, int)
            amax = np.array([np.abs(part).max()])
            if side == 32:
                power = math.frexp(amax[0])[1] - 1 - 2
                after = element("fp4_e2m1", part * np.float32(2.0**-power)) * 2.0**power
            else:
                after = two_levels(part, amax, label, x.abs().max().item())
            want[top : top + side, left : left + side] = torch.from_numpy(np.copysign(after, part).astype(np.float32))
    assert_same(ours(x, name), want, x)


@pytest.mark.parametrize("name", SMALL)
def test_the_reference_searches_what_it_casts(name):
    """The two ways of the reference itself, in the precision that both can hold."""
    for x in (ties(name, torch.float32), powers(torch.float32), ordinary(torch.float32)):
        y = np.clip(x.numpy().astype(np.float64), -VALUES[name].largest, VALUES[name].largest)
        np.testing.assert_array_equal(element(name, x.numpy()), searched(name, y))


@pytest.mark.parametrize("name", [name for name in FORMATS if element_of(name) in SMALL])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_code_decodes_and_encodes_to_itself(name, dtype):
    """Codes of both signs in rows whose largest is the largest of the format (scaled formats) and in every binade."""
    grid = torch.from_numpy(codes(element_of(name)))
    both = torch.cat([grid, -grid])
    row = torch.cat([torch.full((1,), grid.max()), both]).to(dtype)
    scales = (-20, -3, 0, 5) if name in MX and dtype != torch.float16 else (0,)
    width = FORMATS[name].columns or len(row)
    if name in NVFP4:  # with 448 as the largest block scale the tensor scale is 1
        row = row * 448
    blocks = torch.nn.functional.pad(row[1:], (0, -(len(row) - 1) % max(1, width - 1))).reshape(-1, max(1, width - 1))
    rows = torch.cat([row[:1].expand(len(blocks), 1), blocks], 1) if width > 1 else row.view(1, -1)
    for power in scales:
        x = rows * 2.0**power
        assert_same(ours(x, name), x, x, (name, power))


def test_below_at_and_above_every_power_of_two():
    """A logarithm in float32 takes the last floats below 2**k for 2**k, and their block gets twice the scale."""
    for k in range(-120, 121):
        exact = torch.tensor(2.0**k)
        below, above = torch.nextafter(exact, torch.tensor(0.0)), torch.nextafter(exact, torch.tensor(math.inf))
        x = torch.stack([below, exact, above])[:, None] * torch.linspace(1, 0, 32)
        after = ours(x, "mxfp4")
        # below: 1.99... * 2**(k - 1) is 7.99... times the scale and clipped to 6 of them; else 4 times the scale
        assert (after[:, 0] / 2.0**k).tolist() == [0.75, 1.0, 1.0]
        # of a scale, a half is the step in the lowest binade
        assert torch.equal((after[0] * 2.0 ** (4 - k)).frac(), torch.zeros(32))


@pytest.mark.parametrize("name", GFLOAT)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_elements_are_those_of_gfloat_and_torchao(name, dtype, ao):
    x = patterns(dtype)
    x = torch.where(x.isfinite(), x, 0.0).float()  # what they do with the rest: test_format_peers.py
    after = ours(x, name)
    assert_same(torch.from_numpy(gfloat_element(x.numpy(), name)), after, x, "gfloat")
    if not name.startswith("fp8"):
        assert_same(torchao_element(ao, x, name), after, x, "torchao")
    else:
        limit = VALUES[name].largest
        cast = x.clamp(-limit, limit).to(getattr(torch, FORMATS[name].element.dtype)).float()
        assert_same(cast, after, x, "torch")


def sound(x, name, rule):
    """The rows of 32 that no peer gets wrong: finite, and a scale of at least 2**-126 (or nothing but zeros)."""
    amax = x.float().abs().amax(1).double()
    power = torch.from_numpy(exponent(torch.where(amax.isfinite(), amax, 0.0).numpy(), element_of(name), rule))
    return x[amax.isfinite() & ((power > -127) | (amax == 0))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MX_OF_TORCHAO)
def test_mx_is_that_of_torchao(name, rule, dtype, ao):
    for what, given in inputs(name, dtype).items():
        x = sound(given.reshape(-1, 32), name, rule)
        assert len(x) > len(given) / 3
        assert_same(torchao_mx(ao, x, name, rule).to(dtype), ours(x, name, rule), x, what)


@pytest.mark.parametrize("name", MX_OF_TORCHAO)
def test_mx_is_that_of_gfloat(name):
    for what, given in inputs(name, torch.float32).items():
        finite = given.reshape(-1, 32)
        x = finite[finite.isfinite().all(1)][:200]
        assert_same(torch.from_numpy(gfloat_mx(x.numpy(), element_of(name))).float(), ours(x, name), x, what)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_nvfp4_is_that_of_torchao(dtype, ao):
    """Where the block scale is a normal number of E4M3; below, torchao clamps it (test_format_peers.py)."""
    compared = 0
    for what, given in inputs("nvfp4", dtype).items():
        x = given[given.isfinite().all(1)]
        amax = x.float().reshape(-1, 16).abs().amax(1)
        normal = (amax / 6 / (amax.max() / 2688) >= 2.0**-6).repeat_interleave(16).view(x.shape)
        theirs = torchao_nvfp4(ao, x).to(dtype)
        assert_same(torch.where(normal, theirs, 0.0), torch.where(normal, ours(x, "nvfp4"), 0.0), x, what)
        compared += int(normal.sum())
    assert compared > 10_000


def test_nvfp4_of_bf16_in_float64_is_nearly_the_same():
    """Bits depend on the order of operations in ties only: in float64 less than 1.5 % of the elements differ."""
    x = normals(64, 1024, 14).bfloat16()
    one, other = ours(x, "nvfp4").double(), torch.from_numpy(numpy_of(x).astype(np.float64))
    two = fake_quantize(other, "nvfp4")
    assert ((one - two).abs() > 0.03 * two.abs()).double().mean() < 0.015
    energy = [(after - other).square().sum().item() for after in (one, two)]
    assert abs(10 * math.log10(energy[0] / energy[1])) < 0.02
