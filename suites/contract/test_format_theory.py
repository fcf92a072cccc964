"""What each format must do to a standard normal, from independent simulations of 3 x 1e7 draws (NUMERICS.md 1.4).

The draws are keyed: uniforms of the counter-based generator through the inverse of the distribution function, so that
every run sees the same ones. With the 1e7 of the wide table the standard deviation of an SQNR is the ``sd`` given
there; the tolerance, 0.02 dB + 4 sd, leaves room for its being an estimate from three runs. Shares and relative errors
are averages over elements that are dependent within a block only, with standard errors below 0.02 percentage points;
where a block is a tile or a row there are few of them, and sd says so too. At 1e6 draws all these are sqrt(10) times as
large: at most 0.016 dB and 0.04 points, a third of the 0.05 dB and 0.1 points that are allowed there.
"""

import functools
import math

import pytest
import torch

from harness.numerics.quant_measure import measure_quantization
from harness.spec.formats import ELEMENTS, REAL, WHOLE, Format, Recipe
from suites.contract.format_data import normals

pytestmark = pytest.mark.contract
OWN = {
    "int4_channel": Format("int4_channel", ELEMENTS["int4"], REAL, WHOLE),
    "int8_g128": Format("int8_g128", ELEMENTS["int8"], REAL, 128),
    "int8_g32": Format("int8_g32", ELEMENTS["int8"], REAL, 32),
}
"""Rows of one's own, for figures of which the package has no format."""

RECOMMENDED = {  # SQNR in dB, dead zone and saturation in percent
    ("mxfp4", "floor"): (18.79, 8.80, 2.34),
    ("mxfp4", "even"): (19.03, 9.71, 0.62),
    ("mxfp4", "rceil"): (18.76, 10.69, 0),
    ("mxfp4", "ceil"): (16.82, 17.46, 0),
    ("nvfp4", None): (20.44, 6.81, None),
    ("mxfp6_e2m3", "floor"): (30.94, 2.20, 0.37),
    ("mxfp6_e3m2", "floor"): (25.36, 0.27, 0.86),
    ("mxfp8_e4m3", "floor"): (30.65, 0, 0.86),
    ("mxfp8_e4m3", "rceil"): (31.52, 0, 0),
    ("mxfp8_e5m2", "floor"): (25.36, 0, 0.86),
    ("int8_channel", None): (41.83, 1.12, 0),
    ("int4_g128", None): (18.61, 16.00, 0),
}
# columns, format, rule, rounding: SQNR dB, its sd at 1e7 draws, then RMS, mean and median relative error, dead zone
# and saturation in percent, cosine
WIDE = {
    (1536, "mxfp4", "floor"): (18.789, 0.003, 11.496, 21.012, 11.488, 8.8067, 2.3403, 0.993391),
    (1536, "mxfp4", "even"): (19.026, 0.002, 11.186, 22.141, 11.713, 9.7137, 0.6196, 0.993726),
    (1536, "mxfp4", "ceil"): (16.824, 0.001, 14.415, 32.166, 15.851, 17.4617, 0, 0.989647),
    (1536, "mxfp4", "rceil"): (18.755, 0.001, 11.541, 23.417, 12.096, 10.6850, 0, 0.993323),
    (1536, "mxfp6_e2m3", "floor"): (30.943, 0.001, 2.837, 6.787, 2.846, 2.2048, 0.3736, 0.999598),
    (1536, "mxfp6_e2m3", "even"): (30.987, 0.001, 2.822, 6.919, 2.862, 2.2757, 0.1580, 0.999602),
    (1536, "mxfp6_e2m3", "rceil"): (30.958, 0.002, 2.832, 7.027, 2.884, 2.3239, 0, 0.999599),
    (1536, "mxfp6_e3m2", "floor"): (25.360, 0.004, 5.395, 4.985, 4.414, 0.2748, 0.8575, 0.998546),
    (1536, "mxfp6_e3m2", "even"): (25.542, 0.004, 5.283, 4.993, 4.403, 0.2930, 0.3057, 0.998603),
    (1536, "mxfp6_e3m2", "rceil"): (25.544, 0.003, 5.282, 5.013, 4.401, 0.3046, 0, 0.998604),
    (1536, "mxfp8_e4m3", "floor"): (30.646, 0.005, 2.936, 2.289, 2.183, 0.0006, 0.8559, 0.999571),
    (1536, "mxfp8_e4m3", "even"): (31.184, 0.003, 2.759, 2.269, 2.176, 0.0006, 0.5438, 0.999620),
    (1536, "mxfp8_e4m3", "rceil"): (31.521, 0.002, 2.654, 2.252, 2.163, 0.0006, 0, 0.999648),
    (1536, "mxfp8_e5m2", "floor"): (25.362, 0.003, 5.394, 4.510, 4.350, 0, 0.8557, 0.998546),
    (1536, "mxfp8_e5m2", "even"): (25.543, 0.000, 5.282, 4.487, 4.333, 0, 0.3067, 0.998604),
    (1536, "mxfp8_e5m2", "rceil"): (25.544, 0.002, 5.282, 4.487, 4.331, 0, 0, 0.998604),
    (1536, "mxfp4_32x32", "floor"): (18.765, 0.010, 11.528, 23.278, 12.061, 10.5730, 0.2458, 0.993335),
    (1536, "mxfp4", "floor", "stochastic"): (15.988, 0.004, 15.871, 29.305, 14.057, 8.7735, None, 0.987435),
    (1536, "nvfp4", None): (20.437, 0.001, 9.509, 17.879, 10.186, 6.8132, None, 0.995479),
    (1536, "nvfp4", None, "stochastic"): (17.245, 0.002, 13.732, 24.874, 12.266, 6.8004, None, 0.990645),
    (1536, "nvfp4_16x16", None): (19.068, 0.001, 11.132, 22.606, 11.852, 10.0669, None, 0.993790),
    (1536, "fp8_e4m3_tensor", None): (31.538, 0.006, 2.649, 2.255, 2.169, 0.0010, 0, 0.999649),
    (1536, "fp8_e4m3", None): (31.518, 0.001, 2.655, 2.412, 2.185, 0.0776, 0, 0.999647),
    (1536, "int8_channel", None): (41.832, 0.004, 0.810, 3.561, 0.945, 1.1170, 0, 0.999967),
    (8960, "int8_channel", None): (40.817, 0.024, 0.910, 3.934, 1.068, 1.2555, 0, 0.999959),
    (1536, "int4_channel", None): (16.655, 0.003, 14.698, 35.239, 17.840, 20.0078, 0, 0.989371),
    (8960, "int4_channel", None): (15.644, 0.007, 16.512, 38.320, 19.923, 22.4552, 0, 0.986639),
    (1536, "int8_g128", None): (43.794, 0.001, 0.646, 2.931, 0.750, 0.8884, 0, 0.999979),
    (1536, "int4_g128", None): (18.614, 0.004, 11.730, 29.840, 13.850, 15.9989, 0, 0.993195),
    (1536, "int4_g32", None): (20.265, 0.000, 9.699, 25.791, 11.281, 13.2412, 0, 0.995334),
    (1536, "int8_g32", None): (45.439, 0.003, 0.535, 2.484, 0.615, 0.7318, 0, 0.999986),
}
OCTAVE = {  # SQNR in dB: least, mean and largest over eight widths 2**(i / 8)
    ("mxfp4", "floor"): (18.570, 18.747, 18.922),
    ("mxfp4", "even"): (18.935, 18.994, 19.047),
    ("mxfp4", "rceil"): (18.520, 18.645, 18.773),
    ("mxfp8_e4m3", "floor"): (30.145, 30.495, 30.861),
    ("mxfp8_e4m3", "rceil"): (31.519, 31.537, 31.554),
    ("mxfp8_e5m2", "floor"): (25.268, 25.338, 25.405),
}


@functools.lru_cache(maxsize=1)
def draws(columns, count):
    """At least ``count`` standard normal draws as whole rows, float32."""
    rows = -(-count // columns)
    x = torch.empty(rows, columns)
    for start in range(0, rows, 512):  # in float64 a part at a time
        part = slice(start, min(start + 512, rows))
        x[part] = normals(part.stop - start, columns, 1000 + start).float()
    return x


def label(case):
    return "-".join(str(word) for word in case if word)


@pytest.mark.parametrize(("name", "rule"), RECOMMENDED)
def test_a_million_draws_within_a_twentieth_of_a_decibel(name, rule):
    sqnr, dead, saturated = RECOMMENDED[name, rule]
    found = measure_quantization(draws(1536, 10**6), Recipe.of(name, rule))
    assert found.elements >= 10**6
    assert found.sqnr_db == pytest.approx(sqnr, abs=0.05)
    assert 100 * found.dead_zone == pytest.approx(dead, abs=0.1)
    if saturated is not None:
        assert 100 * found.saturation == pytest.approx(saturated, abs=0.1 if saturated else 0)


@pytest.mark.parametrize("case", WIDE, ids=label)
def test_ten_million_draws_in_every_metric(case):
    columns, name, *how = case
    sqnr, sd, rms, mean, median, dead, saturated, cosine = WIDE[case]
    found = measure_quantization(draws(columns, 10**7), Recipe.of(OWN.get(name, name), *how))
    points = 0.02 + 10 * sd
    assert found.sqnr_db == pytest.approx(sqnr, abs=0.02 + 4 * sd)
    assert 100 * found.rms_relative == pytest.approx(rms, rel=(0.02 + 4 * sd) * math.log(10) / 20, abs=0.0005)
    # a small x rounds up to the step with probability x / step, so that (error / x)**2 has no finite mean: the mean of
    # |error / x| varies by 0.04 points from key to key
    assert 100 * found.mean_relative == pytest.approx(mean, abs=0.2 if "stochastic" in how else points)
    assert 100 * found.median_relative == pytest.approx(median, abs=points, rel=2**-12)
    assert 100 * found.dead_zone == pytest.approx(dead, abs=points if dead > 0.01 else 0.001)
    assert 1 - found.cosine == pytest.approx(1 - cosine, rel=(0.02 + 4 * sd) * math.log(10) / 10, abs=5e-7)
    if saturated is not None:
        assert 100 * found.saturation == pytest.approx(saturated, abs=points if saturated else 0)


@pytest.mark.parametrize(("name", "rule"), OCTAVE)
def test_the_width_matters_to_powers_of_two_by_its_fraction(name, rule):
    """Which is why a threshold in dB must come with the width; a million draws at each of eight widths."""
    x = draws(1536, 10**6)
    found = [measure_quantization(x * 2 ** (step / 8), Recipe.of(name, rule)).sqnr_db for step in range(8)]
    for value, want in zip((min(found), sum(found) / 8, max(found)), OCTAVE[name, rule], strict=True):
        assert value == pytest.approx(want, abs=0.05)


@pytest.mark.parametrize("width", [1, 0.05, 0.03, 0.025, 0.02, 0.01, 1e-4])
def test_the_width_does_not_matter_to_nvfp4(width):
    """A quantizer without the tensor scale loses up to 7.5 dB and 24 points of dead zone by 0.01."""
    found = measure_quantization(draws(1536, 10**6) * width, Recipe.of("nvfp4"))
    assert found.sqnr_db == pytest.approx(20.44, abs=0.05)
    assert 100 * found.dead_zone == pytest.approx(6.81, abs=0.1)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_stochastic_rounding_costs_three_decibels(name):
    """Its error has twice the energy inside a step; what is clipped loses the same."""
    x = draws(1536, 10**6)
    near, drawn = (
        measure_quantization(x, Recipe.of(name, None, how)).sqnr_db for how in ("nearest_even", "stochastic")
    )
    assert near - drawn == pytest.approx(3.0, abs=0.25)
    assert drawn == pytest.approx({"mxfp4": 15.99, "nvfp4": 17.25}[name], abs=0.05)


def test_the_draws_are_standard_normal():
    x = draws(1536, 10**6).double()
    count = x.numel()
    assert abs(x.mean().item()) < 4 / math.sqrt(count)
    assert x.square().mean().item() == pytest.approx(1, abs=4 * math.sqrt(2 / count))
    assert x.pow(4).mean().item() == pytest.approx(3, abs=4 * math.sqrt(96 / count))
    assert len(x.unique()) > 0.9 * count
