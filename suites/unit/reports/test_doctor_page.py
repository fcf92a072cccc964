"""What works here, as a page."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.doctor_page import doctor_page
from harness.reports.page import Lines, Table

pytestmark = pytest.mark.unit


def diagnosis(**changes: Any) -> dict[str, Any]:
    finding = {"part": "torch", "state": "works", "needed": True, "detail": "2.9"}
    ability = {"kind": "engine", "name": "vllm", "runs": False, "why": "not installed"}
    return {"findings": [finding], "abilities": [ability], "repair": None, "lacking": [], **changes}


def lines(found: dict[str, Any]) -> tuple[str, ...]:
    return next(part.lines for part in doctor_page(found).parts if isinstance(part, Lines))


def test_both_tables_hold_what_was_found() -> None:
    tables = [part for part in doctor_page(diagnosis()).parts if isinstance(part, Table)]
    assert [table.rows for table in tables] == [
        (("torch", "works", "yes", "2.9"),),
        (("engine", "vllm", "no", "not installed"),),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("everything that is needed works",)),
        ({"lacking": ["ray", "peft"]}, ("needed and not working: ray, peft",)),
        (
            {"repair": {"adds": True, "command": "make setup-full"}},
            ("to add what is missing: make setup-full", "everything that is needed works"),
        ),
        (
            {"repair": {"adds": False, "command": "pip install x"}, "lacking": ["x"]},
            ("to repair it: pip install x", "needed and not working: x"),
        ),
    ],
)
def test_the_last_lines_say_what_to_do(changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert lines(diagnosis(**changes)) == expected
