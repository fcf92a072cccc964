"""Comparisons of one value or none: predictions, rates, identical results."""

from __future__ import annotations

from typing import Any

import pytest

from harness.claims.kinds import judge_formula, judge_identical, judge_prediction, judge_rate
from harness.claims.load import build_registry
from harness.claims.model import FORMULA, IDENTICAL, PREDICTION, RATE, RESTS_ON, Comparison, Place, Value
from harness.claims.numbers import Context

pytestmark = pytest.mark.unit
PLACE = (Place("on", 100),)


@pytest.fixture
def context(small: dict[str, Any]) -> Context:
    return Context.of(build_registry([("small.toml", small)]))


def value(number: float, n: int | None = 1319, metric: str = "accuracy") -> Value:
    return Value(metric, 100, 0.0, number, n, 1, None, {}, ("S",))


@pytest.mark.parametrize(("low", "high", "verdict"), [(74.0, 74.0, "not_established"), (20.0, 30.0, "false")])
def test_a_prediction_is_false_only_where_every_interval_lies_clear(
    context: Context, low: float, high: float, verdict: str
) -> None:
    found = judge_prediction(context, Comparison(PREDICTION, RESTS_ON, PLACE, claimed=(low, high)), value(75.0))
    assert found.verdict == verdict and found.excludes_claimed == (verdict == "false")


@pytest.mark.parametrize(
    ("number", "n", "verdict"),
    [
        (100.0, 300, "supported_single_seed"),
        (100.0, 10, "not_established"),
        (50.0, 100, "false"),
        (100.0, None, "not_established"),
    ],
)
def test_a_rate_is_held_against_wilsons_bounds(context: Context, number: float, n: int | None, verdict: str) -> None:
    comparison = Comparison(RATE, RESTS_ON, PLACE, claimed=(98.0, 98.0))
    assert judge_rate(context, comparison, value(number, n, "identical_share")).verdict == verdict


def test_identical_bits_show_that_nothing_was_changed(context: Context) -> None:
    comparison = Comparison(IDENTICAL, RESTS_ON, PLACE)
    assert judge_identical(context, comparison, value(100.0, 8)).verdict == "false"
    assert judge_identical(context, comparison, value(99.0, 8)).verdict == "not_established"


@pytest.mark.parametrize(
    ("claimed", "window", "verdict"),
    [(100.0, (2.0, 3.0), "supported"), (100.0, (1.0, 2.0), "false"), (50.0, (1.0, 2.0), "not_established")],
)
def test_arithmetic_is_right_wrong_or_what_chance_gives_as_well(
    claimed: float, window: tuple[float, ...], verdict: str
) -> None:
    inputs = {"layers": 40.0, "window": window, "target": (2.0, 3.0)}
    if verdict == "not_established":
        inputs["layers"] = 4.0
    comparison = Comparison(FORMULA, RESTS_ON, (), 0, (claimed, claimed), None, None, "window_overlap", inputs)
    assert judge_formula(comparison).verdict == verdict
