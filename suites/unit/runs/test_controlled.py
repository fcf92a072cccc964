"""The positive control is the one of the rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.record import CERTIFIED, INVALID_EVIDENCE, Certificate, ControlResult, ItemResult
from harness.runs.controlled import NONE_RAN, with_control

pytestmark = pytest.mark.unit
ITEMS = [f"i{index}" for index in range(20)]
GOOD = ControlResult(1.0, 16, 10, 0, 16)


@pytest.fixture
def results(make_result: Callable[..., ItemResult]) -> list[ItemResult]:
    """10 of the first 16 items are right, and all behind them."""
    return [make_result(item, 0.0, 0, 1.0 if index < 10 or index >= 16 else 0.0) for index, item in enumerate(ITEMS)]


def test_a_control_by_the_rule_has_no_problem(results: list[ItemResult]) -> None:
    certificate = Certificate(CERTIFIED, control=GOOD)
    assert with_control(certificate, ITEMS, results) == certificate


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": 0.1}, "its scale is 0.1, the rule gives 1"),
        ({"items": 8}, "its items number 8, the rule gives 16"),
        ({"clean_right": 16}, "its right clean answers number 16, the rule gives 10"),
    ],
)
def test_another_control_is_refused(results: list[ItemResult], change: dict[str, float], words: str) -> None:
    found = with_control(Certificate(CERTIFIED, control=replace(GOOD, **change)), ITEMS, results)
    assert (found.status, found.problems) == (INVALID_EVIDENCE, (f"positive control: {words}",))


def test_none_is_said_first(results: list[ItemResult]) -> None:
    found = with_control(Certificate(CERTIFIED), ITEMS, results)
    assert (found.status, found.uncontrolled, found.notes) == (CERTIFIED, True, (NONE_RAN,))
