"""fake_quantize by hand, per row, and what it refuses."""

import math

import pytest
import torch

from harness.numerics import fake_quantize, native_quantizer, quantizer
from harness.numerics.blocks import block_shape, largest_of_rows, outer_scale, quantize
from harness.numerics.keyed_random import DrawKey, Keys
from harness.numerics.quantizer import chunks, draw_key, quantized, row_maxima, saturated
from harness.spec.formats import ELEMENTS, FORMATS, POWER_OF_TWO, REAL, WHOLE, Format, Recipe

pytestmark = pytest.mark.unit


def some(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_mxfp4_by_hand():
    x = torch.tensor([[6.0, 5.0, 3.5, 2.5, 1.75, 0.75, 0.25, -0.2]])
    assert fake_quantize(x, "mxfp4").tolist() == [[6, 4, 4, 2, 2, 1, 0, 0]]
    assert fake_quantize(x * 2**10, "mxfp4").tolist() == [[value * 2**10 for value in (6, 4, 4, 2, 2, 1, 0, 0)]]
    assert fake_quantize(x, "mxfp4", "ceil")[0, 0] == 6, "3 times the scale 2"
    assert fake_quantize(x, "mxfp4", rounding="toward_zero").tolist() == [[6, 4, 3, 2, 1.5, 0.5, 0, 0]]


def test_int8_per_channel_by_hand():
    x = torch.tensor([[127.0, 0.5, 1.5, -63.4], [1.27, 0.0, -1.27, 0.014]])
    after = fake_quantize(x, "int8_channel")
    assert after[0].tolist() == [127, 0, 2, -63]
    torch.testing.assert_close(after[1], torch.tensor([1.27, 0, -1.27, 0.01]))


def test_the_default_is_floor_and_nearest_even():
    x = some(4, 64)
    assert torch.equal(fake_quantize(x, "mxfp4"), fake_quantize(x, "mxfp4", "floor", "nearest_even"))
    assert torch.equal(fake_quantize(x, "mxfp8"), fake_quantize(x, "mxfp8_e4m3", None))
    assert not torch.equal(fake_quantize(x, "mxfp4"), fake_quantize(x, "mxfp4", "even"))


def test_a_row_of_ones_own_is_a_format():
    x = some(4, 64)
    mine = Format("mxfp4_b8", ELEMENTS["fp4_e2m1"], POWER_OF_TWO, 8)
    want = fake_quantize(x.view(-1, 8), "mxfp4").view(4, 64)
    assert torch.equal(fake_quantize(x, mine), want)
    wide = Format("int8_tile", ELEMENTS["int8"], REAL, 4, 4)
    assert torch.equal(
        fake_quantize(x, wide)[:4, :4], fake_quantize(x[:4, :4].reshape(1, 16), "int8_channel").view(4, 4)
    )


def test_per_row_gives_every_row_its_tensor_scale():
    x = some(6, 40) * torch.logspace(-3, 3, 6).view(-1, 1)
    for name in ("nvfp4", "fp8_e4m3_tensor", "int4_g32", "mxfp4"):
        recipe = Recipe.of(name)
        rows = torch.cat([quantized(x[at : at + 1], recipe) for at in range(6)])
        assert torch.equal(quantized(x, recipe, per_row=True), rows)
        assert torch.equal(quantized(x, recipe), rows) is (name in ("int4_g32", "mxfp4"))
    bad = x.clone()
    bad[2, 7] = math.nan
    after = quantized(bad, Recipe.of("fp8_e4m3_tensor"), per_row=True)
    assert after.isnan().all(1).tolist() == [at == 2 for at in range(6)]
    with pytest.raises(ValueError, match="mxfp4_32x32 for single rows; its tiles span several"):
        quantized(x, Recipe.of("mxfp4_32x32"), per_row=True)


def test_eager_per_row_is_the_same(monkeypatch):
    x = some(300, 40)
    recipe = Recipe.of("nvfp4", rounding="stochastic")
    want = quantized(x, recipe, per_row=True)
    monkeypatch.setattr(native_quantizer, "fits", lambda *given: False)
    monkeypatch.setattr(quantizer, "EAGER_CHUNK", {"cpu": 400})
    assert torch.equal(quantized(x, recipe, per_row=True), want)


def test_what_is_not_finite_spoils_its_block_and_is_marked():
    x = some(2, 96)
    x[0, 40], x[1, 95] = math.inf, math.nan
    found = quantize(x, Recipe.of("mxfp4"))
    assert found.values.isnan().sum() == 64
    assert found.scales.isnan().tolist() == [[False, True, False], [False, False, True]]
    assert not found.saturated[found.values.isnan()].any()
    # in a scale of the whole tensor it does not count, unless the tensor is the block
    assert quantize(x, Recipe.of("nvfp4")).values.isnan().sum() == 32
    assert quantize(x, Recipe.of("fp8_e4m3_tensor")).values.isnan().all()
    assert quantize(x, Recipe.of("fp8_e4m3")).values.isnan().sum() == 2


def test_results_beyond_the_dtype_become_infinite():
    top = torch.full((1, 32), 65504.0)
    assert fake_quantize(top.half(), "mxfp4", "rceil").isinf().all()
    assert fake_quantize(top.half(), "mxfp4").tolist() == [[49152.0] * 32]
    assert fake_quantize(top, "mxfp4", "rceil").tolist() == [[65536.0] * 32]
    largest = torch.full((1, 32), torch.finfo(torch.float32).max)
    assert fake_quantize(largest, "mxfp4", "rceil").isinf().all()
    assert fake_quantize(largest, "mxfp4").isfinite().all()


def test_block_shapes():
    shape = torch.Size((7, 100))
    wanted = {
        **{
            "mxfp4": (1, 32),
            "nvfp4": (1, 16),
            "mxfp4_32x32": (32, 32),
            "int8_channel": (1, 100),
            "int4_g128": (1, 128),
        },
        **{"fp8_e4m3": (1, 1), "fp8_e4m3_tensor": (1, 1)},
    }
    assert {name: block_shape(FORMATS[name], shape) for name in wanted} == wanted
    tall = Format("column", ELEMENTS["int8"], REAL, 1, WHOLE)
    assert block_shape(tall, shape) == (7, 1)


def test_chunks_hold_whole_tiles(monkeypatch):
    monkeypatch.setattr(quantizer, "EAGER_CHUNK", {"cpu": 1000})
    matrix = torch.empty(100, 10)
    assert [(part.start, part.stop) for part in chunks(matrix, 32)] == [(0, 96 // 32 * 32), (96, 192)]
    assert [part.start for part in chunks(torch.empty(5, 2000), 1)] == [0, 1, 2, 3, 4]


def test_row_maxima_are_those_of_finite_elements(monkeypatch):
    x = some(50, 30)
    x[3, 4], x[3, 5], x[7] = math.inf, math.nan, math.nan
    want = largest_of_rows(x)
    assert want[0][7] == 0 and want[1][:, 0].tolist() == [2 if at == 3 else 30 if at == 7 else 0 for at in range(50)]
    monkeypatch.setattr(quantizer, "EAGER_CHUNK", {"cpu": 100})
    for found in (row_maxima(x), native_quantizer.row_maxima(x)):
        assert all(torch.equal(one, other) for one, other in zip(found, want, strict=True))
    assert outer_scale(FORMATS["mxfp4"], want) is None
    assert outer_scale(FORMATS["nvfp4"], want).shape == (1, 1)
    assert outer_scale(FORMATS["nvfp4"], want, per_row=True).shape == (50, 1)


def test_saturated_has_the_shape_of_x():
    x = torch.full((2, 3, 32), 7.0)
    assert saturated(x, Recipe.of("mxfp4")).shape == x.shape and saturated(x, Recipe.of("mxfp4", "even")).sum() == 0
    assert saturated(x, Recipe.of("mxfp4", rounding="stochastic")).all()
    assert saturated(torch.tensor(500.0), Recipe.of("fp8_e4m3")).item() is True
    for empty in ((0, 3), (3, 0)):
        assert saturated(torch.empty(empty), Recipe.of("mxfp4")).shape == empty


def test_draws_depend_on_the_number_and_the_place():
    matrix = torch.empty(5, 7)
    one, two = draw_key(1, matrix), draw_key(2, matrix)
    assert (one.rows.low.shape, one.columns.low.shape) == ((5, 1), (1, 7))
    assert not torch.equal(one.rows.low, two.rows.low) and not torch.equal(one.columns.low, two.columns.low)
    assert torch.equal(draw_key(1, torch.empty(9, 7)).rows.low[:5], one.rows.low), "rows do not depend on their number"
    given = DrawKey(Keys(*one.rows), Keys(*one.columns))
    assert draw_key(given, matrix) is given


def test_stochastic_rounding_without_a_key_is_refused_where_there_is_no_default():
    with pytest.raises(ValueError, match="stochastic rounding draws; give a key"):
        quantize(some(2, 32), Recipe.of("mxfp4", rounding="stochastic"))


@pytest.mark.parametrize(
    ("x", "more", "kind", "words"),
    [
        (torch.ones(32, dtype=torch.int32), {}, TypeError, "dtype torch.int32; formats take torch.float32"),
        (torch.ones(32, dtype=torch.complex64), {}, TypeError, "dtype torch.complex64"),
        (torch.ones(32), {"out": torch.ones(31)}, ValueError, r"out is torch.float32 \(31,\) on cpu; x is"),
        (torch.ones(32), {"out": torch.ones(32).half()}, ValueError, "give an empty_like"),
        (torch.ones(32), {"out": torch.ones(32, device="meta")}, ValueError, "on meta; x is"),
        (torch.ones(32), {"scale_rule": "up"}, ValueError, "unknown scale rule 'up'"),
        (torch.ones(32), {"rounding": "up"}, ValueError, "unknown rounding 'up'"),
        (torch.ones(32), {"fmt": "nvfp5"}, ValueError, "unknown format 'nvfp5'; did you mean 'nvfp4'"),
        (torch.ones(32), {"fmt": "nvfp4", "scale_rule": "rceil"}, ValueError, "only power-of-two scales have one"),
    ],
)
def test_what_is_refused(x, more, kind, words):
    with pytest.raises(kind, match=words):
        fake_quantize(x, **{"fmt": "mxfp4", **more})


def test_x_is_left_as_it_was():
    x = some(4, 64)
    before = x.clone()
    for name in FORMATS:
        fake_quantize(x, name)
        assert torch.equal(x, before)
