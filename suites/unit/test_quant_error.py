"""Metrics of quantization as JSON, and the SQNR at its edges."""

from __future__ import annotations

import json
import math

import pytest

from harness.quant_error import QuantError, sqnr_db

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("signal", "error", "expected"),
    [(100.0, 1.0, 20.0), (1.0, 0.0, math.inf), (1.0, math.inf, -math.inf), (4.0, 4.0, 0.0)],
)
def test_decibels(signal: float, error: float, expected: float) -> None:
    assert sqnr_db(signal, error) == pytest.approx(expected)


def test_without_a_signal_there_is_no_ratio() -> None:
    assert math.isnan(sqnr_db(0.0, 1.0)) and math.isnan(sqnr_db(math.inf, math.inf))


def test_what_json_has_no_numbers_for_survives_it() -> None:
    metrics = QuantError(10, 1, 0, 0, math.inf, 0.0, 0.1, 0.0, 0.0, 0.0, math.nan)
    back = QuantError.from_json(json.loads(json.dumps(metrics.to_json(), allow_nan=False)))
    assert back.sqnr_db == math.inf and math.isnan(back.cosine) and back.saturation == 0.1
