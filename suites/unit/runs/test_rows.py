"""Rows of a run's database, in every schema version that is read."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest

from harness.record import NOISE, QUANTIZER, SiteCount
from harness.runs.rows import count_of, record_reader, record_row, row_digest

pytestmark = pytest.mark.unit
COUNT = SiteCount("up:weight", "linear:weight", 0.05, 0, kind=QUANTIZER, process="a:1", calls=2)


def test_a_record_is_what_its_row_holds_and_equal_scores_are_one_mapping(make_result: Any) -> None:
    first, second = make_result("i0", scores={"b": 0.25, "a": None}), make_result("i1", scores={"b": 0.25, "a": None})
    read = record_reader(4, vouched=False)
    found = [read(record_row(result)) for result in (first, second)]
    assert found == [first, second] and found[0].scores is found[1].scores
    assert list(found[0].scores) == ["b", "a"], "in the order of the scorer"


@pytest.mark.parametrize("version", [2, 3])
def test_an_older_row_has_two_scores_in_columns(make_result: Any, version: int) -> None:
    result = make_result("i0", score="truncated", scores={"strict": 1.0, "flexible": None})
    row = list(record_row(result)[:-1])
    row[6:7] = [1.0, None]
    read = record_reader(version, vouched=False)
    assert read([*row, row_digest(row)]) == result
    with pytest.raises(ValueError, match="the checksum of item i0"):
        read([*row[:6], 0.0, *row[7:], row_digest(row)])


@pytest.mark.parametrize(
    ("op", "kind"), [("linear:weight", QUANTIZER), ("linear:input", QUANTIZER), ("linear", NOISE), ("qk", NOISE)]
)
def test_the_kind_of_an_older_count_is_derived(op: str, kind: str) -> None:
    values = list(astuple(COUNT))
    values[1] = op
    del values[7]
    assert (count_of(values, 3).kind, count_of(values, 3).process) == (kind, "a:1")


def test_a_count_of_today_says_its_kind() -> None:
    values = list(astuple(COUNT))
    assert count_of(values, 4) == COUNT
    values[7] = NOISE
    assert count_of(values, 4).kind == NOISE
