"""What a document leaves in a record: its log-likelihood and its lengths, and no score."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exceptions import HarnessError
from harness.likelihoods import Scored, written
from harness.record import MEASURED, UNPARSED
from harness.scorers import LIKELIHOODS, Asked, judged, load_scorer, reads
from harness.scorers.perplexity import lengths_of

pytestmark = pytest.mark.unit

SCORER, ITEM = load_scorer("perplexity"), Asked("i", "?")


@given(st.text(min_size=1))
def test_lengths_are_those_of_lm_eval(text: str) -> None:
    """``count_words`` and ``count_bytes`` as published."""
    found = judged(SCORER, written([Scored(1, 3, -2.0, False)]), lengths_of(text), ITEM, False).scores
    assert found["words"] == len(re.split(r"\s+", text)) and found["bytes"] == len(text.encode("utf-8", "replace"))


def test_windows_add_up() -> None:
    text = written([Scored(1, 3, -2.0, False), Scored(2, 4, -3.5, True)])
    found = judged(SCORER, text, lengths_of("a b"), ITEM, False)
    assert (found.score, found.reason, found.answer) == (None, MEASURED, None)
    assert found.scores == {"nats": -5.5, "tokens": 7.0, "words": 2.0, "bytes": 3.0}
    assert reads(SCORER) == LIKELIHOODS


def test_one_window_that_is_not_finite_leaves_no_sum() -> None:
    found = judged(SCORER, written([Scored(1, 3, None, False), Scored(2, 4, -3.5, True)]), lengths_of("a"), ITEM, False)
    assert (found.reason, found.scores["nats"]) == (UNPARSED, None)


@pytest.mark.parametrize(("text", "reference"), [("It is", lengths_of("a")), ("[[1,3,-2.0,false]]", "72")])
def test_other_texts_are_refused(text: str, reference: str) -> None:
    with pytest.raises(HarnessError, match="no log-likelihoods"):
        judged(SCORER, text, reference, ITEM, False)
