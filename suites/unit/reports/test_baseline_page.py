"""The pages of baselines: a line for each, and what differs outcome by outcome."""

from __future__ import annotations

import pytest

from harness.baselines.book import Difference
from harness.reports.baseline_page import difference_page, list_page
from harness.reports.page import Lines, Page

pytestmark = pytest.mark.unit


def lines(page: Page) -> list[str]:
    return [line for part in page.parts if isinstance(part, Lines) for line in part.lines]


def test_a_list_has_a_line_for_each() -> None:
    row = {"name": "a", "accepted": "2026-11-28", "items": 64, "status": "certified", "reason": "first"}
    assert lines(list_page([row, row | {"name": "b"}])) == [
        "a  2026-11-28  64 items  certified  first",
        "b  2026-11-28  64 items  certified  first",
    ]


def test_a_difference_counts_and_names_every_outcome() -> None:
    changed = {0.05: {"item 1": {0: ("right", "wrong"), 2: ("wrong", "right")}, "item 2": {1: ("right", "missing")}}}
    found = Difference(("device: a there, b here",), changed, {0.0: 0, 0.05: 3}, {0.0: 0, 0.05: 1})
    assert lines(difference_page(found, "old", "new")) == [
        "device: a there, b here",
        "level 0 %: 0 outcomes differ, 0 only in old, 0 only in new",
        "level 5 %: 3 outcomes differ, 3 only in old, 1 only in new",
        "  item 1: seed 0 right -> wrong, seed 2 wrong -> right",
        "  item 2: seed 1 right -> missing",
    ]
