"""Sampled answers beside a verdict: they follow the draws, respect items and clusters; greedy ones have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.gates import FAIL, PASS, GatePolicy, gate
from harness.gates.repeated import MAJORITY, PASS_ALL, PASS_AT, Repeated, repeated_scores
from harness.record import Arm, Outcome
from harness.spec.sampling import GREEDY, Sampling
from harness.stats import paired_mean, score_mean
from harness.stats.repeated import pass_at_k
from harness.testing.arms import make_arm

pytestmark = pytest.mark.unit
KEY = {"decoding": str(Sampling(0.7))}
RIGHT = np.array([[1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]] * 5, dtype=float)
OTHER = np.array([[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]] * 5, dtype=float)


def cells(scores: np.ndarray) -> dict[str, dict[int, Outcome]]:
    return {
        f"i{row:02}": {seed: Outcome(score, "right" if score else "wrong") for seed, score in enumerate(own)}
        for row, own in enumerate(scores.tolist())
    }


def at(found: tuple[Repeated, ...], measure: str, k: int) -> Repeated:
    (one,) = (each for each in found if (each.measure, each.k) == (measure, k))
    return one


def test_every_measure_at_every_size() -> None:
    found = repeated_scores(cells(RIGHT), cells(OTHER), 0.05, key=KEY)
    assert [(each.measure, each.k) for each in found] == [(m, k) for m in (PASS_AT, PASS_ALL) for k in (1, 2, 4)]
    two = at(found, PASS_AT, 2)
    assert two.value == score_mean(pass_at_k(RIGHT, 2))
    assert two.difference == paired_mean(pass_at_k(RIGHT, 2) - pass_at_k(OTHER, 2))
    assert two.against is not None and two.against.estimate == pytest.approx(pass_at_k(OTHER, 2).mean())
    assert at(found, PASS_AT, 1).value.estimate == at(found, PASS_ALL, 1).value.estimate == RIGHT.mean()


def test_the_majority_needs_the_answers() -> None:
    answers = {(f"i{row:02}", seed): "7" if RIGHT[row, seed] else "8" for row in range(20) for seed in range(4)}
    found = repeated_scores(cells(RIGHT), None, 0.05, key=KEY, answers=(answers, answers))
    four = at(found, MAJORITY, 4)
    assert four.value.estimate == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert four.against is four.difference is None


def test_draws_of_an_item_are_no_items() -> None:
    """Each draw twice: the mean over items is the same, and its interval is no narrower."""
    once, twice = (repeated_scores(cells(s), None, 0.05, key=KEY) for s in (RIGHT, np.repeat(RIGHT, 2, axis=1)))
    assert at(once, PASS_AT, 1).value == at(twice, PASS_AT, 1).value


def test_clusters_widen_the_interval() -> None:
    clusters = {f"i{row:02}": f"c{row % 4}" for row in range(20)}
    alone, together = (repeated_scores(cells(RIGHT), None, 0.05, key=KEY, clusters=c) for c in (None, clusters))
    widths = [at(found, PASS_AT, 1).value.high - at(found, PASS_AT, 1).value.low for found in (alone, together)]
    assert widths[1] > widths[0]


def test_items_that_were_not_measured_are_left_out() -> None:
    broken = cells(RIGHT)
    broken["i00"][2] = Outcome(None, "error")
    found = repeated_scores(broken, None, 0.05, key=KEY)
    assert at(found, PASS_AT, 1).value.estimate == pytest.approx(RIGHT[1:].mean())


@pytest.mark.parametrize(
    ("scores", "key"),
    [(RIGHT, {"decoding": GREEDY}), (RIGHT, {}), (RIGHT[:, :1], KEY), (RIGHT * 0.5, KEY), (RIGHT[:0], KEY)],
    ids=["greedy", "no key", "one draw", "half right", "no item"],
)
def test_where_there_is_nothing_to_say(scores: np.ndarray, key: dict[str, str]) -> None:
    assert repeated_scores(cells(scores), None, 0.05, key=key) == ()


def arm_of(scores: np.ndarray, decoding: str) -> Arm:
    arm = make_arm({0.0: scores.tolist()})
    return replace(arm, key={**arm.key, "decoding": decoding})


def test_the_gate_shows_them_and_decides_without() -> None:
    right = np.ones((300, 4))
    right[::10, 0] = 0
    sampled, greedy = (gate(arm_of(right, d), arm_of(right, d), GatePolicy()) for d in (KEY["decoding"], GREEDY))
    assert sampled.verdict == greedy.verdict == PASS
    assert sampled.levels[0].reasons == greedy.levels[0].reasons
    (shown,) = sampled.to_json()["levels"]
    assert [row["k"] for row in shown["repeated"]] == [1, 2, 4] * 2
    assert shown["repeated"][0]["difference"]["estimate"] == 0
    assert "repeated" not in greedy.to_json()["levels"][0], "a stored verdict of greedy answers stays the same text"


def test_early_stopping_looks_at_every_draw_of_the_clean_level_too() -> None:
    """A candidate that loses everything in its later draws alone is stopped, and FAILs."""
    right, lost = np.ones((400, 3)), np.ones((400, 3))
    lost[:, 1:] = 0
    good, bad = arm_of(right, KEY["decoding"]), arm_of(lost, KEY["decoding"])
    result = gate(bad, good, GatePolicy(early_stop=0.5))
    assert result.verdict == FAIL
    assert "stopped after 13 of 400 items" in result.reasons[0]
    assert gate(good, good, GatePolicy(early_stop=0.5)).verdict == PASS
