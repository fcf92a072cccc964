"""Stored scores held against what their texts give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import StoreError
from harness.record import ERROR
from harness.runs.rescoring import check_scores

pytestmark = pytest.mark.unit
RUN = Path("run")
Make = Callable[..., Any]


def test_sound_scores_pass_and_items_without_a_reference_are_passed_over(make_result: Make) -> None:
    results = [make_result(), make_result("i1", score=0.0), make_result("i2", score=ERROR, text="", answer=None)]
    check_scores(RUN, "strict", results, {"i0": "5", "i1": "5"}, {})
    check_scores(RUN, "strict", [make_result("unknown", score=0.0, text="#### 5")], {}, {})


def test_an_edited_score_is_named_with_its_record(make_result: Make) -> None:
    edited = make_result("i1", 0.05, 2, text="#### 6")
    with pytest.raises(StoreError) as caught:
        check_scores(RUN, "strict", [edited], {"i1": "5"}, {})
    assert "item i1 at level 0.05, seed 2 is stored as right" in str(caught.value)
    assert "its text gives wrong" in str(caught.value)


def test_an_unknown_scorer_is_refused(make_result: Make) -> None:
    with pytest.raises(StoreError, match="its scorer 'lenient' is unknown here"):
        check_scores(RUN, "lenient", [make_result()], {"i0": "5"}, {})
