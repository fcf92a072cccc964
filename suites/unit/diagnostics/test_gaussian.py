"""The yardstick: keyed Gaussian data give the closed-form figures at the scale of the rows that they stand for."""

from __future__ import annotations

import math

import pytest
import torch

from harness.diagnostics.gaussian import RowScales, Yardstick, gaussian
from harness.diagnostics.measuring import Measurement
from harness.diagnostics.policies import calibrated_flags
from harness.diagnostics.scan_result import Metrics
from harness.diagnostics.scan_spec import parse_recipes
from harness.numerics.quant_measure import measure_quantization

pytestmark = pytest.mark.long

KNOWN = {"mxfp4": (18.79, 0.0881, 0.0234), "nvfp4": (20.44, 0.0681, None), "mxfp8": (30.65, 0.0, 0.0086)}


def scales(matrix: torch.Tensor) -> RowScales:
    found = RowScales()
    found.add(matrix)
    return found


@pytest.mark.parametrize("fmt", KNOWN)
def test_closed_form_values_at_sigma_1(fmt: str) -> None:
    recipe = parse_recipes(fmt, "floor")[0]
    found = Yardstick().expected(recipe, scales(torch.ones(4, 1024)), 1024, torch.float32, per_row=False)
    sqnr, dead_zone, saturation = KNOWN[fmt]
    assert found.sqnr_db == pytest.approx(sqnr, abs=0.05)
    assert found.dead_zone == pytest.approx(dead_zone, abs=0.002)
    if saturation is not None:
        assert found.saturation == pytest.approx(saturation, abs=0.002)


@pytest.mark.parametrize("sigma", [0.017, 0.02, 0.0251, 0.03])
@pytest.mark.parametrize("fmt", ["mxfp4", "mxfp8", "int8_channel", "fp8_e4m3"])
def test_other_gaussian_data_meet_it_at_every_scale(fmt: str, sigma: float) -> None:
    recipe = parse_recipes(fmt, "floor")[0]
    data = (gaussian(256, 1536, "other") * sigma).float()
    found = Yardstick().expected(recipe, scales(data), 1536, torch.float32, per_row=False)
    measured = measure_quantization(data, recipe)
    assert found.sqnr_db == pytest.approx(measured.sqnr_db, abs=0.12)
    assert found.dead_zone == pytest.approx(measured.dead_zone, abs=0.004)


def test_rows_of_unlike_scale_weigh_by_their_energy() -> None:
    recipe = parse_recipes("mxfp4", "floor")[0]
    data = (gaussian(512, 1024, "mixed") * torch.logspace(-3, 0, 512, 2, dtype=torch.float64).view(-1, 1)).float()
    found = Yardstick().expected(recipe, scales(data), 1024, torch.float32, per_row=False)
    assert found.sqnr_db == pytest.approx(measure_quantization(data, recipe).sqnr_db, abs=0.1)


def test_ragged_rows_and_rows_of_their_own() -> None:
    nvfp4, int8 = parse_recipes("nvfp4,int8_channel", "floor")
    yardstick = Yardstick()
    lengths = {}
    for length in (24, 1024):
        data = gaussian(4096, length, "ragged").float()
        found = yardstick.expected(nvfp4, scales(data), length, torch.float32, per_row=True)
        assert found.sqnr_db == pytest.approx(measure_quantization(data, nvfp4, per_row=True).sqnr_db, abs=0.1)
        lengths[length] = yardstick.expected(int8, scales(data), length, torch.float32, per_row=False).sqnr_db
    assert lengths[24] > lengths[1024] + 3  # the largest of few draws is smaller


def test_draws_are_normal_and_need_no_global_state() -> None:
    state = torch.random.get_rng_state()
    draws = gaussian(256, 1024)
    assert torch.equal(draws, gaussian(256, 1024)) and torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(draws, gaussian(256, 1024, "another"))
    assert abs(float(draws.mean())) < 5 / 512 and float(draws.std()) == pytest.approx(1, abs=0.01)
    assert float((draws.abs() > 3).double().mean()) == pytest.approx(0.0027, abs=0.0005)


def test_row_scales_skip_zeros_and_what_is_not_finite() -> None:
    found = scales(torch.tensor([[3.0, 4.0], [0.0, 0.0], [math.nan, 1.0]]))
    assert (found.finite, found.nonfinite) == (5, 1)
    assert found.rms == pytest.approx(math.sqrt(26 / 5))
    assert sum(found.rows.values()) == 2
    assert math.isnan(RowScales().rms)


@pytest.mark.parametrize(
    "fmt", ["mxfp4", "nvfp4", "mxfp8", "mxfp6_e3m2", "int8_channel", "int4_g128", "fp8_e4m3_tensor"]
)
def test_gaussian_weights_are_never_flagged(fmt: str) -> None:
    recipe, yardstick = parse_recipes(fmt, "floor")[0], Yardstick()
    for number, shape in enumerate([(64, 64), (48, 100), (16, 448), (128, 1000)]):
        for sigma in (0.011, 0.02, 3.0):
            measurement = Measurement([recipe], per_row=False)
            measurement.add((gaussian(*shape, f"weights {number}") * sigma).bfloat16())
            ((_, error, expected),) = measurement.results(yardstick)
            found = Metrics(error.sqnr_db, error.dead_zone, error.saturation, error.mean_relative)
            assert calibrated_flags(found, expected) == (), (shape, sigma)


def test_nothing_measured_is_nan() -> None:
    recipe = parse_recipes("mxfp4", "floor")[0]
    measurement = Measurement([recipe], per_row=False)
    measurement.add(torch.zeros(2, 32))
    ((_, error, expected),) = measurement.results(Yardstick())
    assert error.zeros == 64 and math.isnan(expected.sqnr_db)
