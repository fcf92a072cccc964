"""The metrics against their definitions in plain numpy, and that parts add up."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from harness.numerics import fake_quantize, native_quantizer, quant_measure, quantizer
from harness.numerics.quant_measure import QuantSums, measure_quantization
from harness.quant_error import QuantError, sqnr_db
from harness.spec.formats import FORMATS, Recipe

pytestmark = pytest.mark.unit
CASES = [
    *(("mxfp4", rule) for rule in ("floor", "even", "ceil", "rceil")),
    *(("mxfp8_e4m3", "floor"), ("nvfp4", None), ("nvfp4_16x16", None), ("mxfp4_32x32", "floor")),
    *(("int8_channel", None), ("int4_g128", None), ("fp8_e4m3_tensor", None), ("fp8_e4m3", None), ("bf16", None)),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def some(*shape, seed=0, dtype=torch.float32):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[torch.rand(shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.03] = 0
    return x.to(dtype)


def by_definition(x, q, saturated):
    """The formulas of harness.quant_error, one after the other; ``saturated`` counts."""
    x, q = x.double().numpy().ravel(), q.double().numpy().ravel()
    kept = ~np.isnan(q)
    x, q = x[kept], q[kept]
    e, nonzero = q - x, x != 0
    relative = np.abs(e[nonzero]) / np.abs(x[nonzero])
    return {
        "elements": len(kept),
        "zeros": int((x == 0).sum()),
        "spoiled": int((~kept).sum()),
        "sqnr_db": 10 * np.log10((x**2).sum() / (e**2).sum()) if e.any() else math.inf,
        "dead_zone": np.mean(q[nonzero] == 0),
        "saturation": saturated / len(x),
        "rms_relative": np.sqrt((e**2).sum() / (x**2).sum()),
        "median_relative": np.sort(relative)[(len(relative) + 1) // 2 - 1],
        "mean_relative": relative.mean(),
        "cosine": (x * q).sum() / np.sqrt((x**2).sum() * (q**2).sum()),
    }


def close(found, want, rel=1e-12):
    for name, value in want.items():
        tolerance = 2**-12 if name == "median_relative" else rel
        assert getattr(found, name) == pytest.approx(value, rel=tolerance, nan_ok=True), name


@pytest.fixture(params=["compiled", "eager"])
def way(request, monkeypatch):
    """Both implementations of the sums."""
    if request.param == "eager":
        monkeypatch.setattr(native_quantizer, "fits", lambda *given: False)
        monkeypatch.setattr(quantizer, "EAGER_CHUNK", {"cpu": 5000})
    return request.param


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "rule"), CASES)
def test_metrics_are_their_definitions(name, rule, dtype, way):
    recipe = Recipe.of(name, rule)
    x = some(70, 150, dtype=dtype)
    if name != "fp8_e4m3_tensor":
        x[3, 5], x[40, 149] = math.nan, math.inf
    clipped = int(quantizer.saturated(x, recipe).sum())
    found = measure_quantization(x, recipe)
    close(found, by_definition(x, fake_quantize(x, name, rule), clipped), 1e-7)
    assert found.bad_blocks == (0 if name == "fp8_e4m3_tensor" else 2)
    if name == "mxfp4" and rule == "floor":
        assert found.saturation > 0.01 and found.dead_zone > 0.05


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_compiled_and_eager_sums_agree(name, rule, monkeypatch):
    x = some(64, 200)
    x[5, 100] = math.inf
    recipe = Recipe.of(name, rule)
    one = measure_quantization(x, recipe)
    monkeypatch.setattr(native_quantizer, "fits", lambda *given: False)
    close(one, dataclasses.asdict(measure_quantization(x, recipe)))


def test_stochastic_rounding_is_measured_with_its_key(way):
    x = some(64, 128)
    recipe = Recipe.of("mxfp4", rounding="stochastic")
    clipped = int(quantizer.saturated(x, recipe).sum())
    close(
        measure_quantization(x, recipe, key=3),
        by_definition(x, fake_quantize(x, "mxfp4", None, "stochastic", key=3), clipped),
        1e-7,
    )
    assert measure_quantization(x, recipe, key=4) != measure_quantization(x, recipe, key=3)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "int8_channel"])
def test_tensors_add_up(name, way):
    parts = [some(32, 96, seed=seed) * 2.0**seed for seed in range(4)]
    recipe, sums = Recipe.of(name), QuantSums()
    for part in parts:
        sums.add(part, recipe)
    whole = torch.cat(parts)
    after = torch.cat([fake_quantize(part, name) for part in parts])
    clipped = sum(int(quantizer.saturated(part, recipe).sum()) for part in parts)
    close(sums.result(), by_definition(whole, after, clipped), 1e-7)
    if name != "nvfp4":  # whose tensor scale is that of each
        close(sums.result(), dataclasses.asdict(measure_quantization(whole, recipe)), 1e-9)
    before = sums.result()
    sums.add(torch.empty(0, 96), recipe)
    sums.add(torch.empty(3, 0), recipe)
    assert sums.result() == before, "nothing adds nothing, and asking changes nothing"


def test_per_row_measures_rows_apart(way):
    x = some(8, 64) * torch.logspace(-4, 4, 8).view(-1, 1)
    recipe, sums = Recipe.of("nvfp4"), QuantSums()
    for row in x:
        sums.add(row, recipe)
    assert sums.result().sqnr_db == pytest.approx(measure_quantization(x, recipe, per_row=True).sqnr_db, abs=1e-9)
    assert measure_quantization(x, recipe).dead_zone > 2 * sums.result().dead_zone


def test_any_number_of_dimensions():
    x = some(2, 3, 4, 64)
    assert measure_quantization(x, Recipe.of("mxfp4")) == measure_quantization(x.view(24, 64), Recipe.of("mxfp4"))
    assert measure_quantization(torch.tensor(1.3), Recipe.of("int4")).elements == 1


def test_shares_over_nothing_are_nan(way):
    nothing = measure_quantization(torch.empty(0, 32), Recipe.of("mxfp4"))
    zeros = measure_quantization(torch.zeros(2, 32), Recipe.of("mxfp4"))
    spoiled = measure_quantization(torch.full((2, 32), math.nan), Recipe.of("mxfp4"))
    for found in (nothing, zeros, spoiled):
        assert all(math.isnan(getattr(found, name)) for name in ("sqnr_db", "dead_zone", "median_relative", "cosine"))
    assert (zeros.zeros, zeros.saturation, spoiled.spoiled, spoiled.bad_blocks) == (64, 0.0, 64, 2)
    exact = measure_quantization(torch.ones(2, 32), Recipe.of("mxfp4"))
    assert (exact.sqnr_db, exact.rms_relative, exact.median_relative, exact.cosine) == (math.inf, 0, 0, 1)


def test_a_dead_element_counts_as_a_hundred_percent(way):
    x = torch.tensor([[6.0, 0.1, 0.2, 0.0]])
    found = measure_quantization(x, Recipe.of("mxfp4"))
    assert (found.dead_zone, found.mean_relative) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_the_median_of_exact_elements_is_zero(way):
    x = torch.tensor([[6.0, 4.0, 3.0, 2.9, 0.26]])
    assert measure_quantization(x, Recipe.of("mxfp4")).median_relative == 0


def test_saturation_is_not_the_rounding_of_a_real_scale(way):
    """amax / (amax / 127) may be 127.00001."""
    x = some(300, 128, seed=5)
    for name in ("int8_channel", "int4_g32", "fp8_e4m3_tensor"):
        assert measure_quantization(x, Recipe.of(name)).saturation == 0


def test_results_that_the_dtype_cannot_hold_are_seen(way):
    x = torch.full((1, 32), 65504.0).half()
    found = measure_quantization(x, Recipe.of("mxfp4", "rceil"))
    assert (found.sqnr_db, found.rms_relative, found.spoiled) == (-math.inf, math.inf, 0)


def test_json_keeps_every_number():
    found = measure_quantization(some(4, 64), Recipe.of("mxfp4"))
    for each in (
        found,
        measure_quantization(torch.zeros(1, 4), Recipe.of("mxfp4")),
        dataclasses.replace(found, sqnr_db=math.inf),
    ):
        data = each.to_json()
        assert str(QuantError.from_json(data)) == str(each)
        assert all(isinstance(value, str | int) or math.isfinite(value) for value in data.values())


def test_decibels():
    assert sqnr_db(100, 1) == 20 and sqnr_db(1, 0) == math.inf
    assert math.isnan(sqnr_db(0, 0)) and math.isnan(sqnr_db(0, 1)) and math.isnan(sqnr_db(math.inf, math.inf))
    assert sqnr_db(1, math.inf) == -math.inf


def test_every_format_is_measured():
    x = some(40, 64)
    for name in FORMATS:
        found = measure_quantization(x, Recipe.of(name))
        assert found.sqnr_db > 3 and found.cosine > 0.7 and found.spoiled == 0
    assert quant_measure._BINS == (0x7F800000 >> quant_measure._DROPPED_BITS) + (1 << 11)
