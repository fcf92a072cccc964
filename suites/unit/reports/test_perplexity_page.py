"""The table of perplexities: units, brackets, what is infinite and what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.perplexity_page import HEADER, perplexity_table

pytestmark = pytest.mark.unit


def interval(estimate: float | None, low: float | None = 1.0, high: float | None = 9.0) -> dict[str, float | None]:
    return {"estimate": estimate, "low": low, "high": high}


def level(**changes: Any) -> dict[str, Any]:
    by = {"tokens": interval(8.0), "words": interval(None, 4.0, None), "bytes": interval(4.0)}
    found = {"documents": 1200, "not_finite": 1, "nats_per_token": interval(2.0794), "by": by, "lost": None}
    return {"level": 0.05, "draws": 2400, "perplexity": {**found, **changes}}


def test_a_row_has_every_number_in_its_unit() -> None:
    (row,) = perplexity_table([level(lost=interval(0.25, -0.5, 1.0))]).rows
    assert dict(zip(HEADER, row, strict=True)) == {
        "level": "5 %",
        "documents": "1,200",
        "draws": "2,400",
        "nats / token": "2.0794 [1.0000, 9.0000]",
        "perplexity by token": "8.000 [1.000, 9.000]",
        "by word": "inf [4.000, inf]",
        "by byte": "4.000 [1.000, 9.000]",
        "bits / byte": "2.0000",
        "lost, nats / token": "+0.2500 [-0.5000, +1.0000]",
        "not finite": "1",
    }


def test_the_clean_level_loses_nothing_against_itself() -> None:
    (row,) = perplexity_table([level()]).rows
    assert dict(zip(HEADER, row, strict=True))["lost, nats / token"] == "-"
