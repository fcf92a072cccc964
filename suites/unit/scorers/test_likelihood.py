"""Choices and minimal pairs: by the rules of lm-evaluation-harness but for ties and for what is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exceptions import HarnessError
from harness.likelihoods import Scored, written
from harness.record import RIGHT, UNPARSED, WRONG
from harness.scorers import Asked, Judged, judged, load_scorer
from harness.scorers.likelihood import choices_of, reference_of

pytestmark = pytest.mark.unit

ITEM = Asked("i", "?")


def judge(name: str, nats: list[float], choices: list[str], answer: int = 0) -> Judged:
    text = written([Scored(1, 2, value, False) for value in nats])
    return judged(load_scorer(name), text, reference_of(choices, answer), ITEM, False)


@given(
    st.lists(
        st.tuples(st.integers(-40, -1), st.text("ab\u00e9\u4e2d", min_size=1, max_size=6)),
        min_size=2,
        max_size=5,
        unique_by=lambda pair: pair[1],
    ),
    st.data(),
)
def test_the_choice_is_that_of_lm_eval(pairs: list[tuple[int, str]], data: st.DataObject) -> None:
    """``np.argmax`` of the sums, of the sums by characters and of the sums by bytes: the published lines."""
    nats, choices = [float(value) for value, _ in pairs], [choice for _, choice in pairs]
    answer = data.draw(st.integers(0, len(pairs) - 1))
    lengths = np.array([float(len(choice)) for choice in choices])
    sizes = np.array([float(len(choice.encode("utf-8"))) for choice in choices])
    expected = {
        "acc": np.argmax(nats) == answer,
        "acc_norm": np.argmax(nats / lengths) == answer,
        "acc_bytes": np.argmax(nats / sizes) == answer,
    }
    for name, primary in (("choice", "acc"), ("choice_norm", "acc_norm")):
        found = judge(name, nats, choices, answer)
        assert found.scores == {key: float(value) for key, value in expected.items()}
        assert found.score == found.scores[primary] and found.reason == (RIGHT if found.score else WRONG)
        assert (found.answer == choices[answer]) == bool(found.score)


@pytest.mark.parametrize(
    ("nats", "score", "answer"), [([-1, -2], 1.0, "good"), ([-2, -1], 0.0, "bad"), ([-1, -1], 0.0, "tie")]
)
def test_a_tie_of_a_pair_is_not_right(nats: list[float], score: float, answer: str) -> None:
    found = judge("pair", nats, ["it is", "it are"])
    assert (found.score, found.answer) == (score, answer)


@pytest.mark.parametrize("name", ["choice", "choice_norm", "pair"])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_silent_score(name: str, broken: float) -> None:
    for nats in ([broken, -1.0], [-1.0, broken]):
        found = judge(name, nats, ["a", "b"])
        assert (found.score, found.reason, found.answer) == (None, UNPARSED, None)
        assert set(found.scores.values()) == {None}


@pytest.mark.parametrize(
    ("scorer", "text", "reference", "words"),
    [
        ("choice", "#### 72", reference_of(("a", "b"), 0), "no a text of scored requests|it is no"),
        ("choice", written([Scored(1, 1, -1.0, False)]), reference_of(("a", "b"), 0), "1 requests, not of 2"),
        ("choice", "", "72", "at least two choices"),
        ("choice", "", '{"choices":["a","b"],"answer":2}', "at least two choices"),
        ("pair", "", reference_of(("a", "b", "c"), 0), "a pair has two"),
    ],
)
def test_texts_and_references_of_another_kind_are_refused(scorer: str, text: str, reference: str, words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        judged(load_scorer(scorer), text, reference, ITEM, False)


def test_a_reference_comes_back() -> None:
    assert choices_of(reference_of(("é", '"b"'), 1)) == (("é", '"b"'), 1)
