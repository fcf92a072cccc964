"""The pages of claims: grouped by verdict, every number in words, what would settle it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.claims_page import claims_page, theory_page
from harness.reports.claims_tables import number_text, p_text, settle_line, summary_line
from harness.reports.page import Heading, Lines, Table

pytestmark = pytest.mark.unit
NUMBERS: dict[str, Any] = {
    **{"difference": 5.0, "claimed": [5.0, 5.0], "interval": [1.0, 9.0], "p": 0.0001, "runs_per_arm": [1, 1]},
    **{"items_per_arm": [1319, 1319], "run_difference": 5.0, "run_interval": [2.0, 8.0], "run_p": 0.02},
    **{"run_method": "pooled", "attainable_p": None},
}


def claim(name: str, verdict: str) -> dict[str, Any]:
    found = {"id": name, "claim": "adds 5", "source": ["S"], "factors": ["aqn"], "verdict": verdict, "reason": "why"}
    return {**found, "numbers": NUMBERS, "seeds_per_arm_to_settle": 4, "items_per_arm_to_settle": 12_000} | {
        "comparisons": [],
        "cautions": ["beware"],
    }


def test_the_numbers_of_a_comparison_are_one_line_without_what_is_missing() -> None:
    assert number_text(NUMBERS) == (
        "difference +5.00, claimed 5, questions [+1.00, +9.00], p < 0.001, runs +5.00 [+2.00, +8.00], p 0.020 (pooled)"
    )
    assert number_text(dict.fromkeys(NUMBERS) | {"claimed": [2.0, 3.5]}) == "claimed 2 to 3.5"
    assert (p_text(None), p_text(0.0009), p_text(0.05)) == ("-", "< 0.001", "0.050")


def test_what_would_settle_a_claim() -> None:
    assert settle_line(claim("A", "void")) == (
        "to settle it: 4 training seeds per arm, 12,000 questions per arm if they were another sample"
    )
    nothing = {"seeds_per_arm_to_settle": None, "items_per_arm_to_settle": None}
    assert settle_line(nothing) == "no number of seeds settles it"


def test_claims_stand_under_their_verdict_and_in_full() -> None:
    claims = [claim("A", "false"), claim("B", "supported"), claim("C", "false")]
    report = {"claims": claims, "summary": {"supported": 1, "false": 2}}
    report["replicates"] = {"pooled_sd": None, "groups": []}
    assert summary_line(report) == "3 claims: 1 supported, 2 false"
    page = claims_page(report)
    tables = [part for part in page.parts if isinstance(part, Table)]
    assert [[row[0] for row in table.rows] for table in tables] == [["B"], ["A", "C"]]
    assert [part.text for part in page.parts if isinstance(part, Heading) and part.depth == 3] == ["A", "B", "C"]
    assert any("note: beware" in part.lines for part in page.parts if isinstance(part, Lines) and part.detail)


def test_a_statement_without_runs_is_a_row_of_dashes() -> None:
    statement = {"outcome": "undecided", "text": "E8c - E8b", "estimate": None, "low": None, "high": None}
    statement |= {"p": None, "attainable_p": None, "runs": [0, 3], "reason": "an arm has no run"}
    criterion = {"name": "theory", "outcome": "undecided", "rule": "r", "statements": [statement]}
    page = theory_page({"outcome": "undecided", "arms": {"E8a": []}, "criteria": [criterion]})
    (table,) = [part for part in page.parts if isinstance(part, Table)]
    assert table.rows[0][3:] == ("-", "-", "-", "-", "0 / 3", "an arm has no run")
    assert any("E8a: no run" in part.lines for part in page.parts if isinstance(part, Lines))
