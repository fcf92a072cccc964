"""Texts that nobody judges: no score, no verdict, and a report that says so."""

from __future__ import annotations

import pytest

from harness.exceptions import HarnessError
from harness.gates.perplexity import refuse_continuous
from harness.record import MEASURED
from harness.scorers import Asked, judged, load_scorer

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("truncated", [False, True])
def test_a_text_has_a_length_and_no_score(truncated: bool) -> None:
    found = judged(load_scorer("unscored"), "abc", "", Asked("1", "?"), truncated)
    assert (found.score, found.reason, found.answer, dict(found.scores)) == (None, MEASURED, None, {"characters": 3.0})


def test_no_gate_judges_it() -> None:
    with pytest.raises(HarnessError, match="its answers were judged by nobody here"):
        refuse_continuous({"scorer": "unscored"}, "run x")
