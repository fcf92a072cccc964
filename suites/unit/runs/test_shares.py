"""The number of rare events of a run against their rate."""

from __future__ import annotations

import pytest

from harness.record import SiteCount
from harness.runs.shares import share_problems

pytestmark = pytest.mark.unit
RATE, ELEMENTS = 1e-5, 10_000_000


def counts(changed: int, nonfinite: int = 0) -> list[SiteCount]:
    half = SiteCount("up", "linear", RATE, elements=ELEMENTS // 2, changed=changed // 2, nonfinite=nonfinite)
    return [half, SiteCount("down", "linear", RATE, elements=ELEMENTS // 2, changed=changed - changed // 2)]


@pytest.mark.parametrize("changed", [40, 80, 100, 125, 170])
def test_what_chance_explains_is_no_problem(changed: int) -> None:
    assert share_problems(counts(changed), RATE) == []


@pytest.mark.parametrize("changed", [0, 20, 200, 1000, ELEMENTS])
def test_what_chance_does_not_explain_is_named(changed: int) -> None:
    (problem,) = share_problems(counts(changed), RATE)
    assert problem == (
        f"ineffective injection: {changed} of {ELEMENTS} elements changed, a share of 1e-05 was asked for"
    )


def test_elements_that_were_not_finite_before_had_no_chance_and_need_not_have_had_one() -> None:
    assert share_problems(counts(20, nonfinite=8_000_000), RATE) == []
    assert share_problems(counts(100, nonfinite=8_000_000), RATE) == []
    assert share_problems(counts(0, nonfinite=1_000), RATE)
    assert share_problems(counts(1000, nonfinite=8_000_000), RATE)


def test_sequences_with_the_same_draws_are_less_evidence() -> None:
    assert share_problems(counts(30), RATE) and share_problems(counts(30), RATE, alike=4) == []
    assert share_problems(counts(1000), RATE, alike=4)


def test_nothing_is_asked_where_the_share_depends_on_the_data() -> None:
    assert share_problems(counts(0), None) == [] and share_problems([], RATE) == []


def test_dense_rates_are_held_too() -> None:
    assert share_problems(counts(1_000_000), 0.1) == []
    assert share_problems(counts(800_000), 0.1)
