"""Bad scores: one clear error each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.stats import (
    DIFFERENCES,
    FRACTIONS,
    ScoreError,
    ScoreRange,
    continuous_mean,
    mean_ratio,
    score_table,
    two_way_mean,
)
from harness.stats.checks import matrix, vector

pytestmark = pytest.mark.unit
ROWS = [("b", 1, 0.0), ("a", 1, 1.0), ("a", 0, 0.5), ("b", 0, 1.0)]

BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "above the range": (lambda: vector([0.5, 1.5], "scores", FRACTIONS), "scores holds 1.5; a score lies in [0, 1];"),
    "below the range": (lambda: score_table([("a", 0, -0.1)]), "the table holds -0.1; a score lies in [0, 1];"),
    "a reward beyond its range": (lambda: vector([11], "rewards", ScoreRange(-10, 10)), "rewards holds 11.0"),
    "NaN": (lambda: vector([0.5, math.nan], "scores"), "scores holds nan; a score is a finite number;"),
    "infinite": (lambda: continuous_mean([math.inf]), "values holds inf; a score is a finite number;"),
    "item twice": (lambda: score_table([("a", 0, 1.0), ("a", 0, 1.0)]), "item a has seed 0 twice; an item counts once"),
    "unequal seeds": (lambda: score_table([*ROWS, ("c", 0, 1.0)]), "item c lacks seed 1; every item has the same"),
    "ragged rows": (lambda: two_way_mean([[0.1, 0.2], [0.3]]), "every item has the same number of seeds"),
    "unequal lengths": (lambda: mean_ratio([1.0], [1.0, 0.5]), "1 items on one side and 2 on the other"),
    "a vector for a matrix": (lambda: matrix([0.1, 0.2], "scores"), "scores has shape (2,); items by seeds"),
    "words": (lambda: vector(["right"], "scores"), "scores is not an array of numbers"),
    "empty range": (lambda: ScoreRange(1.0, 1.0), "score range 1.0 to 1.0; low lies below high"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_scores_are_one_clear_error(refusal: Callable[..., str], kind: str) -> None:
    call, words = BAD[kind]
    text = refusal(call, kind=ScoreError)
    assert words in text
    with pytest.raises(ValueError):  # for callers that know nothing of this package
        call()


def test_a_table_is_sorted_and_complete() -> None:
    found = score_table(ROWS)
    assert (found.items, found.seeds) == (("a", "b"), (0, 1))
    assert found.scores.tolist() == [[0.5, 1.0], [1.0, 0.0]]
    assert score_table(reversed(ROWS)).scores.tolist() == found.scores.tolist()
    assert score_table([]).scores.shape == (0, 0)


def test_ranges_of_scores_and_of_their_differences() -> None:
    assert (DIFFERENCES.low, DIFFERENCES.high, DIFFERENCES.most) == (-1, 1, 1)
    assert (FRACTIONS.width, FRACTIONS.most) == (1, 1)
    assert ScoreRange(-10, 10).most == 20
    assert ScoreRange(-10, 10).differences.most == 20
    assert np.array_equal(FRACTIONS.check([0.0, 1.0], "ends"), [0.0, 1.0])
