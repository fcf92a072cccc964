"""The interval as strict JSON."""

from __future__ import annotations

import math

import pytest

from harness.stats.interval import Interval

pytestmark = pytest.mark.unit


def test_json_has_no_nan_and_no_infinity() -> None:
    assert Interval(0.5, 0.25, 0.75).to_json() == {"estimate": 0.5, "low": 0.25, "high": 0.75}
    assert Interval(math.nan, -math.inf, math.inf).to_json() == {"estimate": None, "low": None, "high": None}
