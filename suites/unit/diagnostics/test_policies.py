"""Both policies at their limits, and the sources' tables as they stand there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.diagnostics.policies import (
    NAN_FLAG,
    calibrated_flags,
    judge,
    layer_flags,
    sigma_guide,
    sources_flags,
)
from harness.diagnostics.scan_result import (
    OUTSIDE,
    LayerEffect,
    Metrics,
    ModuleScan,
    ScanResult,
    combine,
    natural,
    short_names,
)
from harness.quant_error import QuantError

pytestmark = pytest.mark.unit

GAUSSIAN = Metrics(18.8, 0.088, 0.023, 0.21)


def module(name: str = "model.layers.0.up", sqnr: float = 18.8, **changes: object) -> ModuleScan:
    error = QuantError(1000, 0, 0, 0, sqnr, 0.088, 0.023, 10 ** (-sqnr / 20), 0.11, 0.21, 0.99)
    group = ".".join(name.split(".")[:3])
    made = ModuleScan(name, group, "weights", "mxfp4", (10, 100), "float32", "d", 0, 1.0, error, GAUSSIAN)
    return replace(made, **changes)  # type: ignore[arg-type]


def result(*modules: ModuleScan, **changes: object) -> ScanResult:
    settings = {"formats": ["mxfp4"], "scale_rules": {"mxfp4": "floor"}, "task": {"name": "arith"}}
    checkpoint = {"path": "c", "model": "M", "weights": "w" * 64, "settings": "s", "adapter": None}
    return replace(ScanResult(checkpoint, settings, modules), **changes)  # type: ignore[arg-type]


def layers(bad: int, of: int) -> ScanResult:
    good = Metrics(30.0, 0.0, 0.0, 0.02)
    made = []
    for number in range(of):
        error = QuantError(1000, 0, 0, 0, 19.0 if number < bad else 30.0, 0.0, 0.0, 0.1, 0.0, 0.02, 0.99)
        made.append(module(f"model.layers.{number}.up", error=error, expected=good))
    return result(*made)


def test_the_calibrated_policy_asks_for_a_margin() -> None:
    assert calibrated_flags(GAUSSIAN, GAUSSIAN) == ()
    assert calibrated_flags(replace(GAUSSIAN, sqnr_db=17.81), GAUSSIAN) == ()
    assert calibrated_flags(replace(GAUSSIAN, sqnr_db=17.79), GAUSSIAN) == ("SQNR 1.0 dB below Gaussian",)
    assert calibrated_flags(replace(GAUSSIAN, dead_zone=1.5 * 0.088 + 0.0101), GAUSSIAN)[0].startswith("dead zone")
    assert calibrated_flags(replace(GAUSSIAN, saturation=1.5 * 0.023 + 0.0101), GAUSSIAN)[0].startswith("saturation")
    assert calibrated_flags(replace(GAUSSIAN, dead_zone=1.5 * 0.088 + 0.0099), GAUSSIAN) == ()
    assert calibrated_flags(replace(GAUSSIAN, mean_relative=5.0), GAUSSIAN) == (), "the relative error never decides"
    assert calibrated_flags(GAUSSIAN, GAUSSIAN, nonfinite=1) == (NAN_FLAG,)


def test_the_sources_limits() -> None:
    sound = Metrics(20.0, 0.05, 0.01, 0.10)
    assert sources_flags(sound) == ()
    for name, value in (("sqnr_db", 19.99), ("dead_zone", 0.051), ("saturation", 0.011), ("mean_relative", 0.101)):
        assert len(sources_flags(replace(sound, **{name: value}))) == 1
    assert sources_flags(sound, nonfinite=3) == (NAN_FLAG,)


@pytest.mark.parametrize(
    ("bad", "of", "words"),
    [
        (0, 20, "mixed precision"),
        (1, 20, "mixed precision"),
        (2, 20, "mixed: FP16"),
        (6, 20, "mixed: FP16"),
        (7, 20, "reconsider"),
        (20, 20, "reconsider"),
    ],
)
def test_the_sources_shares(bad: int, of: int, words: str) -> None:
    verdict = judge(layers(bad, of), "sources", "mxfp4", "weights")
    assert len(verdict.flagged) == bad and verdict.share == bad / of
    assert f": {words}" in verdict.summary
    assert verdict.unattainable == ()


@pytest.mark.parametrize(
    ("sqnr", "dead_zone", "sigma", "priority"),
    [
        (17.9, 0.0, "0.05 -> 0.0005", "critical"),
        (18.0, 0.11, "0.02 -> 0.0005", "recommended"),
        (19.0, 0.10, "0.01 -> 0.0001", "optional"),
        (22.0, 0.5, "0.01 -> 0.0001", "optional"),
        (22.1, 0.5, "none", "skip"),
        (math.nan, math.nan, "unknown", "nothing was measured"),
    ],
)
def test_the_sources_guide(sqnr: float, dead_zone: float, sigma: str, priority: str) -> None:
    assert sigma_guide(sqnr, dead_zone) == (sigma, priority)


def test_what_no_data_of_this_shape_can_meet_is_listed() -> None:
    verdict = judge(result(module()), "sources", "mxfp4", "weights")
    assert len(verdict.flagged) == 1
    assert [limit.split()[0] for limit in verdict.unattainable] == ["SQNR", "dead", "saturation", "relative"]
    calibrated = judge(result(module()), "calibrated", "mxfp4", "weights")
    assert calibrated.flagged == {} and "as well as" in calibrated.summary


def test_a_bad_module_flags_its_layer_even_where_the_layer_hides_it() -> None:
    made = result(module(), module("model.layers.0.down", 10.0, rms=0.001), module("model.layers.1.up"))
    (first, second) = made.layers("mxfp4", "weights")
    assert first.metrics.sqnr_db == pytest.approx(18.8, abs=0.01)
    assert layer_flags(first) == ("down: SQNR 8.8 dB below Gaussian",)
    assert layer_flags(second) == ()
    verdict = judge(made, "calibrated", "mxfp4", "weights")
    assert list(verdict.flagged) == ["model.layers.0"] and "1 of 2" in verdict.summary


def test_energies_add_up() -> None:
    one, two = Metrics(20.0, 0.1, 0.0, 0.2), Metrics(10.0, 0.3, 0.2, 0.4)
    both = combine([(one, 3.0, 100.0), (two, 1.0, 300.0)])
    assert both.sqnr_db == pytest.approx(10 * math.log10(4 / (0.03 + 0.1)))
    assert (both.dead_zone, both.saturation) == (pytest.approx(0.25), pytest.approx(0.15))
    empty = Metrics(math.nan, math.nan, math.nan, math.nan)
    assert combine([(one, 3.0, 100.0), (empty, 0.0, 50.0)]).dead_zone == pytest.approx(0.1)


def test_layers_sort_as_numbers_and_are_called_short() -> None:
    groups = [OUTSIDE, "h.10", "h.9"]
    assert sorted(groups, key=natural) == ["h.9", "h.10", OUTSIDE]
    assert short_names(groups) == {OUTSIDE: OUTSIDE, "h.10": "10", "h.9": "9"}
    assert short_names(["encoder.block.0", "decoder.block.0"])["decoder.block.0"] == "decoder.block.0"


def test_effects_are_ranked_by_divergence() -> None:
    def effect(group: str, kl: float | None) -> LayerEffect:
        none = {"estimate": 0.0, "low": 0.0, "high": 0.0}
        return LayerEffect(group, "mxfp4", "weights", 4, 9, none | {"estimate": kl}, none, none, 0, 0, 0)

    made = result(effects=(effect("h.0", 0.1), effect("h.1", None), effect("h.2", 0.5)))
    assert [found.group for found in made.ranked_effects("mxfp4")] == ["h.1", "h.2", "h.0"]
