"""The positive control is the one of the rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.likelihoods import Scored, written
from harness.record import CERTIFIED, INVALID_EVIDENCE, Certificate, ControlResult, ItemResult, LikelihoodResult
from harness.runs.controlled import NONE_RAN, control_items, with_control
from harness.spec.tokens import spans_of

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


def test_items_without_a_token_that_the_noise_selects_are_passed_over() -> None:
    """Of 40 items every third has a continuation of three tokens, which alone have a second decode step."""
    items = [f"i{index}" for index in range(40)]
    scored = {item: [(5, 1), (5, 3 if index % 3 == 0 else 2)] for index, item in enumerate(items)}
    assert control_items(items, scored, spans_of(["decode:2-"])) == [f"i{index}" for index in range(0, 40, 3)]
    assert control_items(items, scored, ()) == control_items(items, {}, spans_of(["decode:2-"])) == items[:16]
    assert control_items(items, scored, spans_of(["decode:9"])) == []


def test_a_control_of_passed_over_items_is_held_against_the_rule() -> None:
    clean = [
        LikelihoodResult(item, 0.0, 0, 1.0, "right", "", {}, 5, (1,) * n, written([Scored(5, n, -1.0, False)]), True)
        for item, n in zip(ITEMS, [1, 3] * 10, strict=True)
    ]
    spans = spans_of(["decode"])
    good = Certificate(CERTIFIED, control=ControlResult(1.0, 10, 10, 0, 10))
    assert with_control(good, ITEMS, clean, spans) == good
    assert "its items number 10, the rule gives 16" in with_control(good, ITEMS, clean).problems[0]
