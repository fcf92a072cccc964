"""The compiled quantizer: the bits of the eager code, and what happens without a compiler (compare test_kernel.py)."""

import logging
import math

import pytest
import torch

from harness.numerics import compiled_c, fake_quantize, native_quantizer
from harness.numerics.blocks import has_outer_scale, largest_of_rows, outer_scale, quantize
from harness.numerics.keyed_random import DrawKey, Keys
from harness.numerics.quant_measure import measure_quantization
from harness.numerics.quantizer import draw_key, quantized
from harness.spec.formats import ELEMENTS, FORMATS, POWER_OF_TWO, REAL, ROUNDINGS, SCALE_RULES, Format, Recipe

pytestmark = pytest.mark.unit
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
COMPILED = [name for name, row in FORMATS.items() if row.rows not in (16, 32) and name != "bf16"]
RECIPES = [
    Recipe.of(name, rule if FORMATS[name].has_scale_rule else None, rounding)
    for name in COMPILED
    for rounding in ROUNDINGS
    for rule in (SCALE_RULES if FORMATS[name].has_scale_rule else (None,))
]


def some(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def any_bits(dtype):
    """Random patterns, of all binades, a few of them not finite."""
    integer = torch.int32 if dtype == torch.float32 else torch.int16
    info = torch.iinfo(integer)
    drawn = torch.randint(info.min, info.max, (60, 77), generator=torch.Generator().manual_seed(1), dtype=integer)
    x = drawn.view(dtype).clone()
    bad = ~x.isfinite()
    x[bad & (torch.arange(77) % 7 > 0)] = 1
    return x


def same(a, b):
    return torch.equal(a.nan_to_num(7, 8, 9), b.nan_to_num(7, 8, 9)) and torch.equal(a.isnan(), b.isnan())


def agrees(x, recipe):
    keys = draw_key(5, x) if recipe.rounding == "stochastic" else None
    assert native_quantizer.fits(x, recipe, keys)
    outer = outer_scale(recipe.format, largest_of_rows(x))
    want = quantize(x, recipe, keys, outer).values.to(x.dtype)
    out = torch.empty_like(x)
    native_quantizer.quantize_rows(x, recipe, out, keys, outer)
    assert same(out, want), str(recipe)
    assert torch.equal(torch.signbit(out)[~out.isnan()], torch.signbit(want)[~want.isnan()]), str(recipe)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_bits_are_those_of_the_eager_code(recipe):
    for dtype in DTYPES:
        for x in (some(20, 130, dtype=dtype), any_bits(dtype), some(1, 1, dtype=dtype), some(3, 64 * 40, dtype=dtype)):
            agrees(x, recipe)


@pytest.mark.parametrize("width", [1, 2, 7, 16, 31, 33, 64, 100])
@pytest.mark.parametrize("scale", [POWER_OF_TWO, REAL])
def test_blocks_of_any_width(width, scale):
    row = Format("own", ELEMENTS["fp6_e2m3"], scale, width)
    for columns in (1, width, width * 65 + 3):
        agrees(some(5, columns), Recipe.of(row))


def test_what_the_kernel_does_not_know_goes_the_eager_way():
    x = some(4, 64)
    key = draw_key(1, x)
    each = DrawKey(Keys(*(half.expand(4, 64) for half in key.rows)), key.columns)
    fits = native_quantizer.fits
    assert fits(x, Recipe.of("mxfp4"), None) and fits(x, Recipe.of("mxfp4"), key)
    assert not fits(x, Recipe.of("mxfp4"), each)
    for name in ("mxfp4_32x32", "nvfp4_16x16", "bf16"):
        assert not fits(x, Recipe.of(name), None)
    assert not fits(x.double(), Recipe.of("mxfp4"), None)
    assert not fits(x.to("meta"), Recipe.of("mxfp4"), None)
    recipe = Recipe.of("mxfp4", rounding="stochastic")
    assert torch.equal(quantized(x, recipe, each), quantized(x, recipe, key))


def test_the_kernel_knows_all_other_formats():
    x = some(4, 64)
    assert {name for name in FORMATS if native_quantizer.fits(x, Recipe.of(name), None)} == set(COMPILED)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_row_maxima_agree(dtype):
    x = any_bits(dtype)
    x[3] = math.nan
    for one, other in zip(native_quantizer.row_maxima(x), largest_of_rows(x), strict=True):
        assert torch.equal(one, other)


def test_scales_of_rows_are_read_by_row():
    x = some(6, 48) * torch.logspace(-3, 3, 6).view(-1, 1)
    recipe = Recipe.of("nvfp4")
    assert has_outer_scale(recipe.format)
    each = torch.cat([quantize(x[at : at + 1], recipe).values for at in range(6)])
    assert torch.equal(quantized(x, recipe, per_row=True), each)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """The compiled functions are found anew in an empty cache, and again afterwards; compiled fast instead of to be
    fast."""
    monkeypatch.setattr(compiled_c, "FLAGS", ("-O0", *compiled_c.FLAGS[1:]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cached = (native_quantizer._functions, compiled_c.library)
    for each in cached:
        each.cache_clear()
    yield tmp_path / "cache"
    for each in cached:
        each.cache_clear()


def results(x):
    after = [fake_quantize(x, name, rounding=rounding) for name in ("mxfp4", "nvfp4") for rounding in ROUNDINGS]
    return after, measure_quantization(x, Recipe.of("mxfp4"))


def test_without_a_compiler_it_goes_on_eagerly_and_says_so(fresh, monkeypatch, caplog, tmp_path):
    x = some(40, 100)
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    with caplog.at_level(logging.WARNING, "harness"):
        eager, measured = results(x)
    assert not native_quantizer._functions()
    assert "the C compiler failed" in caplog.text and "quantize runs eagerly" in caplog.text
    assert caplog.text.count("the C compiler failed") == 1, "once, not for every call"
    monkeypatch.delenv("CC")
    for each in (native_quantizer._functions, compiled_c.library):
        each.cache_clear()
    compiled, again = results(x)
    assert native_quantizer._functions()
    assert all(torch.equal(one, other) for one, other in zip(eager, compiled, strict=True))
    assert measured.dead_zone == again.dead_zone and measured.sqnr_db == pytest.approx(again.sqnr_db, rel=1e-12)


def test_with_no_compiler_on_the_path(fresh, monkeypatch, caplog):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiled_c.shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING, "harness"):
        fake_quantize(some(2, 32), "mxfp4")
    assert "no C compiler: quantize runs eagerly" in caplog.text


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("scales->out[b] = power_of_two(exponent)", "scales->out[b] = power_of_two(exponent + 1)"),
        ("draw < (a - r) / step", "draw <= (a - r) / step + 0.5f"),
        ("scales->in[b] = reciprocal / inner", "scales->in[b] = 1.0f / (outer * inner)"),
        ("(normal & 0x007FFFFFu) > up_above", "(normal & 0x007FFFFFu) >= up_above"),
    ],
)
def test_a_compiled_kernel_of_other_bits_is_not_used(fresh, monkeypatch, caplog, tmp_path, what, instead):
    """Faults of the kernel that the comparison at its first use must see."""
    source = (compiled_c.FOLDER / "quantize.c").read_text()
    assert source.count(what) == 1
    (tmp_path / "quantize.c").write_text(source.replace(what, instead))
    (tmp_path / "keyed.h").write_text(compiled_c.HEADER.read_text())
    monkeypatch.setattr(compiled_c, "FOLDER", tmp_path)
    with caplog.at_level(logging.WARNING, "harness"):
        assert torch.float32 not in native_quantizer._functions()
    assert "the compiled quantizer differs from the eager one" in caplog.text


def test_the_library_is_compiled_once_and_kept(fresh):
    assert set(native_quantizer._functions()) == set(DTYPES)
    (made,) = (fresh / "robustness-harness").iterdir()
    before = made.stat().st_mtime_ns
    for each in (native_quantizer._functions, compiled_c.library):
        each.cache_clear()
    assert set(native_quantizer._functions()) == set(DTYPES)
    assert made.stat().st_mtime_ns == before
