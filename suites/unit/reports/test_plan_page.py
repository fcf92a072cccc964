"""The page of a plan: alike sites in one row, and what is left out with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.plan_page import grouped_rows, left_out_rows, pattern, plan_header

pytestmark = pytest.mark.unit


def line(site: str, layer: int, **changes: Any) -> dict[str, Any]:
    found = {"site": site, "op": "linear", "way": "module", "point": "output", "direction": "forward", "operand": ""}
    return {**found, "layer": layer, "calls": 1, "width": None, "elements": 0, **changes}


def test_numbers_in_names_become_asterisks() -> None:
    assert pattern("model.layers.12.mlp.experts.3.up_proj") == "model.layers.*.mlp.experts.*.up_proj"
    assert pattern("lm_head") == "lm_head"


def test_alike_sites_share_a_row_and_others_do_not() -> None:
    rows = grouped_rows([line("layers.0.q", 0), line("layers.1.q", 1), line("layers.1.k", 1, calls=2)])
    assert [row[0] for row in rows] == ["layers.*.q", "layers.1.k"], "a site that is alone keeps its name"
    assert [row[5:7] for row in rows] == [("2", "2"), ("1", "2")] and rows[0][-1] == "?", "its width is not known"


def test_what_is_left_out_is_grouped_by_its_reason() -> None:
    reasons = {"layers.0.gate": "a router", "layers.1.gate": "a router", "layers.2.gate": "named", "head": "named"}
    assert left_out_rows(reasons) == [
        ("layers.*.gate", "2", "a router"),
        ("layers.2.gate", "1", "named"),
        ("head", "1", "named"),
    ]


def test_the_last_column_is_for_several_tokens() -> None:
    assert plan_header(1000)[:-1] == plan_header(1) and plan_header(1000)[-1].endswith("of 1,000 tokens")
