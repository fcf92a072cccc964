"""What a gate can tell: one row per level, the odds, what is enough, warnings below."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.page import Lines
from harness.reports.power_page import NOTE, power_page, power_rows

pytestmark = pytest.mark.unit
ODDS = {"passing": 0.8, "inconclusive": 0.15, "failing": 0.05}


def level(**changes: Any) -> dict[str, Any]:
    found = {"level": 0.05, "n": 1319, "noise_seeds": 5, "discordance": 0.081, "own": True, "margin": 0.02}
    found |= {"effect": 0.0123, "odds": ODDS, "items": 12_000, "seeds": None, "clusters": None, "design": 1.0}
    return {**found, "warning": "", **changes}


def test_a_row_gives_shares_in_percent_and_what_is_enough() -> None:
    assert power_rows([level()]) == [
        ("5 %", "1319", "5", "8.1 own", "2.00", "1.23", "0.80 / 0.15 / 0.05", "12,000", "none")
    ]


def test_without_own_seeds_the_discordance_is_assumed_and_no_number_of_seeds_helps() -> None:
    row = power_rows([level(own=False, items=None, seeds=7)])[0]
    assert row[3] == "8.1 assumed" and row[-2:] == ("none", "one draw")


def test_the_whole_gate_clusters_and_warnings_are_told_below() -> None:
    page = power_page([level(clusters=40, design=1.5, warning="too few"), level(level=0.1)], "all levels: 0.7")
    (lines,) = [part.lines for part in page.parts if isinstance(part, Lines)]
    assert lines[:2] == ("all levels: 0.7", NOTE) and lines[-1] == "warning: too few" and len(lines) == 4
    assert "level 5 %: 40 clusters, design effect 1.50 (from the baseline's differences between" in lines[2]
