"""The two scorers of a final number, and what becomes of a text that was cut off."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.answers import canonical_number, score_text, strict_answer
from harness.record import RIGHT, TRUNCATED, UNPARSED, WRONG
from harness.scorers import Asked, Judged, judged, load_scorer

pytestmark = pytest.mark.unit
NUMBERISH = st.text(alphabet="0123456789.,+-$eE#/* \n%x\u2212\u00a0\uff11", max_size=30)


def judge(text: str, name: str, truncated: bool = False, reference: str = "2") -> Judged:
    return judged(load_scorer(name), text, reference, Asked("i0", "?"), truncated)


def part(found: Judged) -> tuple[float | None, str, str | None]:
    return found.score, found.reason, found.answer


@pytest.mark.parametrize("text", ["9", "#", "-", "$", "1,", "1e", "#### ", "#### 1,", ". ", "$ ", "1,234"])
def test_time_is_linear_in_the_text(text: str) -> None:
    long = "#### " + text * (200_000 // len(text))
    begun = time.process_time()
    judge(long, "strict", True, "1")
    assert time.process_time() - begun < 5  # CPU seconds; 0.2 measured, quadratic time would be minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#### 2", (1.0, RIGHT, "2")),
        ("#### 3", (0.0, WRONG, "3")),
        ("the answer is 2", (None, UNPARSED, None)),
    ],
)
def test_an_ended_text(text: str, expected: tuple[float | None, str, str | None]) -> None:
    assert part(judge(text, "strict")) == expected


def test_flexible_reads_the_last_number() -> None:
    assert judge("#### 2 (not 3)", "flexible") == Judged(0.0, WRONG, "3", {"strict": 1.0, "flexible": 0.0})
    assert judge("no", "flexible") == Judged(None, UNPARSED, None, {"strict": None, "flexible": None})


@pytest.mark.parametrize(
    "text", ["#### 2\nSo", "#### 2.\n", "#### 2. ", "#### 2%\n", "#### 2e\n", "#### 2/n\n", "#### 2 in all is it so"]
)
def test_truncated_after_a_complete_answer(text: str) -> None:
    assert part(judge(text, "strict", True)) == (1.0, RIGHT, "2")
    assert part(judge(text, "flexible", True)) == (None, TRUNCATED, None)


@pytest.mark.parametrize(
    "text",
    [
        *("#### 2", "#### 2.", "#### 2,", "#### 2,0", "#### 2e", "#### 2e+", "#### 2e1", "#### 2/", "#### 2-"),
        *(
            "#### 2 ",
            "#### 2%",
            "#### 2 dollars",
            "#### 2\u00a0",
            "#### 2\u202f00",
            "#### 2\n####",
            "#### 2\n#### ",
            "#### 2\n#### -$",
            "####",
            "2",
            "",
            "#### 1,2 x",
        ),
    ],
)
def test_truncated_within_or_before_the_answer(text: str) -> None:
    assert part(judge(text, "strict", True)) == (None, TRUNCATED, None)


@settings(deadline=None)
@given(st.one_of(st.text(), NUMBERISH.map("#### {}".format)), st.booleans())
def test_any_text_is_scored_without_an_exception(text: str, truncated: bool) -> None:
    both = score_text(text, "7")
    for name in ("strict", "flexible"):
        found = judge(text, name, truncated, "7")
        assert found.scores == {"strict": both.strict, "flexible": both.flexible}
        assert (found.score is None) == (found.reason in (UNPARSED, TRUNCATED)) == (found.answer is None)
        assert found.score in (None, 0.0, 1.0)
        assert found.answer is None or canonical_number(found.answer) == found.answer


@settings(deadline=None)
@given(NUMBERISH, NUMBERISH)
def test_a_complete_answer_does_not_change_when_the_text_goes_on(start: str, more: str) -> None:
    text = f"#### {start}"
    found = judge(text, "strict", True, "7")
    if found.reason != TRUNCATED:
        assert strict_answer(text + more.replace("#", "")) == found.answer
