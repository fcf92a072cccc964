"""The page of a gate on distributions says every number of its JSON, and ``-`` for what is not known."""

from __future__ import annotations

import pytest

from harness.reports.divergence_page import divergence_page
from harness.reports.page import Lines, Table

pytestmark = pytest.mark.unit

LEVEL = {
    "level": 0.05,
    "verdict": "PASS",
    "reasons": ["the mean divergence is 0.0123 nats a token"],
    "items": 64,
    "tokens": 2048,
    "seeds": [0],
    "divergence": {"estimate": 0.0123, "low": 0.0101, "high": 0.0157},
    "change": {"estimate": -0.02, "low": -0.03, "high": -0.01},
    "same": {"estimate": 0.987, "low": 0.97, "high": 1.0},
    "skewness": 1.84,
    "short": 0.00012,
    "p_pass": 0.001,
    "p_fail": 0.9,
}
FOUND = {
    "verdict": "INVALID",
    "exit_code": 4,
    "margin": 0.02,
    "alpha": 0.05,
    "family": "all levels must pass",
    "candidate": "new",
    "reference": "old",
    "notes": ["across quantization"],
    "levels": [LEVEL, {**LEVEL, "verdict": "INVALID", "divergence": None, "change": None, "same": None, "short": None}],
}


def test_a_row_for_each_level():
    page = divergence_page(FOUND)
    (table,) = (part for part in page.parts if isinstance(part, Table))
    first, second = table.rows
    assert first == (
        *("5 %", "PASS", "64", "2048", "0.0123 [0.0101, 0.0157]", "0.00012", "1.8"),
        *("-0.02 [-0.03, -0.01]", "98.7 [97.0, 100.0]"),
    )
    assert (second[4], second[5], second[7], second[8]) == ("-",) * 4
    assert {"level", "verdict", "divergence nats/token"}.isdisjoint(table.spare)
    (lines,) = (part for part in page.parts if isinstance(part, Lines))
    assert lines.lines[0] == "5 %: the mean divergence is 0.0123 nats a token"
    assert (page.verdict.word, page.notes) == ("INVALID", ("across quantization",))


def test_a_bound_that_is_not_known_has_no_number():
    level = {**LEVEL, "divergence": {"estimate": 0.01, "low": None, "high": None}, "skewness": None}
    (table,) = (part for part in divergence_page({**FOUND, "levels": [level]}).parts if isinstance(part, Table))
    assert (table.rows[0][4], table.rows[0][6]) == ("0.01 [-, -]", "-")
