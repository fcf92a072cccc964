"""How numbers are read from texts."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.answers import (
    Scored,
    canonical_number,
    flexible_answer,
    score_text,
    strict_answer,
)
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit

GSM8K = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k"
NUMBERISH = st.text(alphabet="0123456789.,-+$eE#/* \n%x\u2212\u00a0\uff11", max_size=30)


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("#### 18", "18", "18"),
        ("####18", "18", "18"),
        ("####\t 18", "18", "18"),
        ("##### 18", "18", "18"),
        ("#### 1,234 dollars.", "1234", "1234"),
        ("#### 1,234,567.", "1234567", "1234567"),
        ("#### 1\u202f234", "1234", "1234"),
        ("#### 12.0", "12", "12"),
        ("#### 12.50%", "12.5", "12.5"),
        ("#### 12.", "12", "12"),
        ("#### 12,", "12", "12"),
        ("#### .5", "0.5", "0.5"),
        ("#### 007", "7", "7"),
        ("#### -5", "-5", "-5"),
        ("#### \u22125", "-5", "-5"),
        ("#### +5", "5", "5"),
        ("#### -0.0", "0", "0"),
        ("#### $18.00", "18", "18"),
        ("#### -$18", "-18", "-18"),
        ("#### $-18", "-18", "-18"),
        ("#### $ 18", "18", "18"),
        ("#### \\$18", "18", "18"),
        ("#### \u20ac18", "18", "18"),
        ("#### \u00a318", "18", "18"),
        ("#### \uffe518", "18", "18"),
        ("#### \uff0d\uff11\uff18", "-18", "-18"),
        ("#### 5kg", "5", "5"),
        ("#### 1e3", "1000", "1000"),
        ("#### 1.5e-1", "0.15", "0.15"),
        ("#### 3\n#### 4", "4", "4"),
        ("#### 18\n\n#### Explanation", "18", "18"),
        ("#### 18 ####", "18", "18"),
        ("#### 18\nThat is 2 per 3.", "18", "3"),
        ("the answer is 18", None, "18"),
        ("#### **18**", None, "18"),
        ("#### answer: 18", None, "18"),
        ("####\n18", None, "18"),
        ("#### - 5", None, "5"),
        ("### 18", None, "18"),
        ("#### 1,2,3", None, None),
        ("#### 4\n#### 1,2,3", None, "4"),
        ("7, then 1.2.3", None, "7"),
        ("7, then 12,34", None, "7"),
        ("7, then 0,123", None, "7"),
        ("7, then 1e1000", None, "7"),
        ("#### 5*3", None, "3"),
        ("#### 3/4", None, None),
        ("#### 10-20", None, "20"),
        ("#### 10\u201320", None, "20"),
        ("(3)-2", None, "2"),
        ("133-81=52", None, "52"),
        ("133 - 81 = -52", None, "-52"),
        ("No.5", None, "5"),
        ("done.5", None, "5"),
        ("so .5", None, "0.5"),
        ("...5", None, "5"),
        ("--5", None, "5"),
        ("5\u00b2", None, None),
        ("#### 5 kg\u00b2", "5", "5"),
        ("#### 18. 3 are left", "18", "3"),
        ("#### 18 (3 per day)", "18", "3"),
        ("\u0663", None, None),
        ("-", None, None),
        ("#### -", None, None),
        ("#### $", None, None),
        ("#### NaN", None, None),
        ("#### -Infinity", None, None),
        ("", None, None),
    ],
)
def test_reads_numbers_as_documented(text: str, strict: str | None, flexible: str | None) -> None:
    assert (strict_answer(text), flexible_answer(text)) == (strict, flexible)


def test_scores_are_right_wrong_or_none() -> None:
    assert score_text("1\n#### 2", "2") == Scored(1.0, 1.0, "2", "2")
    assert score_text("#### 2.0 but 3", "2") == Scored(1.0, 0.0, "2", "3")
    assert score_text("3", "2") == Scored(None, 0.0, None, "3")
    assert score_text("none", "2") == Scored(None, None, None, None)


def test_values_are_compared_exactly() -> None:
    assert score_text("#### 0.1000000000000000055511151231257827", "0.1").strict == 0.0
    assert score_text(f"#### {10**40 + 1}", str(10**40)).strict == 0.0
    assert score_text(f"#### {10**40}.0", str(10**40)).strict == 1.0


def test_reference_may_be_written_with_separators_and_must_be_a_number() -> None:
    assert score_text("#### 1234", "1,234").strict == 1.0
    with pytest.raises(HarnessError, match=r"'NaN'.*must be one number"):
        score_text("#### 1", "NaN")


def test_marker_counts_however_far_from_the_end() -> None:
    assert strict_answer("#### 18\n" + "word " * 1000) == "18"


@settings(deadline=None)
@given(st.one_of(st.text(), NUMBERISH.map("#### {}".format)))
def test_any_text_is_read_without_an_exception(text: str) -> None:
    scored = score_text(text, "7")
    for answer in (scored.strict_answer, scored.flexible_answer):
        assert answer is None or (Decimal(answer).is_finite() and canonical_number(answer) == answer)


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**15), max_value=10**15))
def test_formatted_numbers_round_trip(value: Decimal) -> None:
    for written in (f"{value:f}", f"{value:,f}", f"{value:f}0", f"{value:f}".replace("-", "\u2212")):
        for text in (f"12 and 5\n#### {written} dollars.", f"#### {written}%", f"#### {written}"):
            answer = strict_answer(text)
            assert answer is not None
            assert Decimal(answer) == value
            assert flexible_answer(text) == answer
            assert score_text(text, f"{value:f}") == Scored(1.0, 1.0, answer, answer)


@pytest.mark.skipif(not GSM8K.is_dir(), reason=f"the real GSM8K files are not in {GSM8K}")
def test_all_real_gold_solutions_score_one() -> None:
    lines = (GSM8K / "test.jsonl").read_text(encoding="utf-8").splitlines()
    solutions = [json.loads(line)["answer"] for line in lines]
    golds = [solution.rpartition("#### ")[2].replace(",", "") for solution in solutions]
    scored = [score_text(solution, gold) for solution, gold in zip(solutions, golds, strict=True)]
    assert len(scored) == 1319
    assert sum(entry.strict == 1.0 for entry in scored) == 1319
    assert sum(entry.flexible == 1.0 for entry in scored) == 1319
    workings = [solution.rpartition("####")[0] for solution in solutions]
    unmarked = [score_text(working, gold) for working, gold in zip(workings, golds, strict=True)]
    assert {entry.strict for entry in unmarked} == {None}
    assert sum(entry.flexible == 1.0 for entry in unmarked) == 1283
