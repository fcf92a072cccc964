"""pass@k, pass^k and maj@k against counting by hand, without bias, and refused where they mean nothing."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stats import ScoreError
from harness.stats.repeated import majority_at_k, pass_all_k, pass_at_k, sizes

pytestmark = pytest.mark.unit
ROW = st.lists(st.sampled_from(["right", "a", "b", "c", None]), min_size=1, max_size=7)


def by_hand(answers, k):
    """(pass@k, pass^k, maj@k) of one item, subset by subset."""
    one = every = majority = 0.0
    subsets = list(itertools.combinations(answers, k))
    for subset in subsets:
        one += "right" in subset
        every += set(subset) == {"right"}
        votes = Counter(answer for answer in subset if answer is not None)
        best = [answer for answer, count in votes.items() if count == max(votes.values())]
        majority += best.count("right") / len(best) if best else 0
    return one / len(subsets), every / len(subsets), majority / len(subsets)


@given(ROW, st.data())
@settings(max_examples=200, deadline=None)
def test_each_is_the_mean_over_all_choices_of_k_draws(answers, data):
    k = data.draw(st.integers(1, len(answers)))
    right = [[float(answer == "right") for answer in answers]]
    found = pass_at_k(right, k)[0], pass_all_k(right, k)[0], majority_at_k(right, [answers], k)[0]
    assert found == pytest.approx(by_hand(answers, k), abs=1e-12)


def test_at_one_draw_all_three_are_the_mean():
    right = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=float)
    answers = [["7" if score else str(place) for place, score in enumerate(row)] for row in right]
    for found in (pass_at_k(right, 1), pass_all_k(right, 1), majority_at_k(right, answers, 1)):
        np.testing.assert_allclose(found, right.mean(axis=1))


def test_many_draws_stay_exact():
    rng = np.random.default_rng(0)
    right = (rng.random((3, 64)) < 0.4).astype(float)
    answers = [["r" if score else str(rng.integers(20)) for score in row] for row in right]
    found = majority_at_k(right, answers, 9)
    for row, own, value in zip(right, answers, found, strict=True):
        drawn = [rng.permutation(64)[:9] for _ in range(4000)]
        shares = []
        for places in drawn:
            votes = Counter(own[place] for place in places)
            best = [answer for answer, count in votes.items() if count == max(votes.values())]
            shares.append(best.count("r") / len(best))
        assert value == pytest.approx(np.mean(shares), abs=5 * 0.5 / 4000**0.5)
        assert pass_at_k(row[None], 9)[0] == pytest.approx(np.mean([row[p].any() for p in drawn]), abs=0.04)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_fewer_draws_give_no_bias(k):
    """The mean of the estimates from 8 draws is the truth, which the plug-in 1 - (1 - c/n)^k misses."""
    p, rng = 0.2, np.random.default_rng(1)
    right = (rng.random((40_000, 8)) < p).astype(float)
    assert pass_at_k(right, k).mean() == pytest.approx(1 - (1 - p) ** k, abs=0.006)
    assert pass_all_k(right, k).mean() == pytest.approx(p**k, abs=0.006)


def test_right_answers_are_one_answer_and_silence_is_none():
    right = [[1, 1, 0, 0]]
    assert majority_at_k(right, [["7", "7.0", "8", "8"]], 4)[0] == 0.5
    assert majority_at_k(right, [["7", "7.0", "8", None]], 4)[0] == 1.0
    assert majority_at_k([[0, 0, 0]], [[None, None, None]], 3)[0] == 0.0
    assert majority_at_k([[1, 0, 0]], [["7", None, None]], 3)[0] == 1.0


def test_what_is_reported():
    assert sizes(0) == ()
    assert sizes(1) == (1,)
    assert sizes(2) == (1, 2)
    assert sizes(5) == (1, 2, 4, 5)
    assert sizes(8) == (1, 2, 4, 8)


@pytest.mark.parametrize("measure", [pass_at_k, pass_all_k, lambda right, k: majority_at_k(right, [["1", "2"]], k)])
@pytest.mark.parametrize("k", [0, 3, -1])
def test_more_draws_than_there_are(measure, k):
    with pytest.raises(ScoreError, match=rf"k = {k} of 2 draws"):
        measure([[1.0, 0.0]], k)


def test_scores_between_right_and_wrong():
    with pytest.raises(ScoreError, match=r"a score of 0\.5"):
        pass_at_k([[0.5, 1.0]], 1)


def test_answers_of_another_shape():
    with pytest.raises(ScoreError, match="answers to 1 items beside scores of 2 items x 2 draws"):
        majority_at_k([[1.0, 0.0], [0.0, 0.0]], [["a", "b"]], 1)
