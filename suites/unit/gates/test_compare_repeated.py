"""Arms of training runs with sampled answers: pass@k, pass^k and maj@k of each run, over training seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy.stats import ttest_ind

from harness.gates.arms import Replicate, ReplicatedArm
from harness.gates.compare import DIFFERENCE, INVALID, compare_arms
from harness.record import Arm
from harness.reports.compare_page import comparison_page
from harness.reports.render.markdown import markdown
from harness.spec.sampling import GREEDY, Sampling
from suites.unit.gates.test_compare import run, trained

pytestmark = pytest.mark.unit
KEY = {"task": "t", "noise": "n", "decoding": str(Sampling(0.7))}


def sampled(right: int, also: int, *, votes: bool = True) -> Arm:
    """Two draws: ``right`` items are right in both, ``also`` more in the first alone, of 200."""
    plain = run(right + also, key=KEY)
    outcomes = {
        level: {
            item: {**cells, 1: cells[0] if number < right else run(0).outcomes[level]["i0"][0]}
            for number, (item, cells) in enumerate(table.items())
        }
        for level, table in plain.outcomes.items()
    }
    names = {
        level: {item: {s: "+" if c.score else "a" for s, c in cells.items()} for item, cells in table.items()}
        for level, table in outcomes.items()
    }
    return replace(plain, outcomes=outcomes, votes=names if votes else {})


def arm(label: str, rights: list[tuple[int, int]], sigma: float, **how: bool) -> ReplicatedArm:
    runs = [
        Replicate(sampled(*right, **how), f"{label}{seed}", trained(seed, sigma)) for seed, right in enumerate(rights)
    ]
    return ReplicatedArm(label, tuple(runs))


ONE, OTHER = [(100, 40), (110, 40), (105, 50)], [(50, 10), (55, 20), (60, 10)]


def test_each_measure_is_one_number_of_a_run_and_judged_by_welch() -> None:
    level = compare_arms([arm("a", ONE, 0.05), arm("b", OTHER, 0.0)]).levels[0]
    found = {(each.measure, each.k): each for each in level.repeated}
    assert list(found) == [(measure, k) for measure in ("pass@k", "pass^k", "maj@k") for k in (1, 2)]
    assert found["pass@k", 2].values["a"] == pytest.approx([(both + one) / 200 for both, one in ONE])
    assert found["pass^k", 2].values["a"] == pytest.approx([both / 200 for both, _ in ONE])
    assert found["maj@k", 2].values["a"] == pytest.approx([(both + one / 2) / 200 for both, one in ONE])
    assert found["pass@k", 1].values == {name: pytest.approx(values) for name, values in level.values.items()}
    tested = ttest_ind([140, 150, 155], [60, 75, 70], equal_var=False)
    assert found["pass@k", 2].difference.p == pytest.approx(tested.pvalue)
    assert level.verdict == DIFFERENCE


def test_the_page_shows_them_and_says_that_they_decide_nothing() -> None:
    text = markdown(comparison_page(compare_arms([arm("a", ONE, 0.05), arm("b", OTHER, 0.0)]).to_json()))
    assert "a: 70.0, 75.0, 77.5; b: 30.0, 37.5, 35.0" in text and "They describe and decide nothing" in text


def test_without_votes_in_every_run_there_is_no_majority() -> None:
    found = compare_arms([arm("a", ONE, 0.05), arm("b", OTHER, 0.0, votes=False)]).levels[0].repeated
    assert {each.measure for each in found} == {"pass@k", "pass^k"}


def test_greedy_runs_and_invalid_arms_have_none() -> None:
    def greedy(whole: ReplicatedArm) -> ReplicatedArm:
        key = {**KEY, "decoding": GREEDY}
        return replace(whole, replicates=tuple(replace(r, run=replace(r.run, key=key)) for r in whole.replicates))

    found = compare_arms([greedy(arm("a", ONE, 0.05)), greedy(arm("b", OTHER, 0.0))])
    assert found.verdict == DIFFERENCE and not found.levels[0].repeated
    assert "repeated" not in found.to_json()["levels"][0]
    same = compare_arms([arm("a", ONE, 0.05), arm("b", OTHER, 0.05)])
    assert same.verdict == INVALID and not same.levels[0].repeated


def test_one_run_an_arm_has_numbers_and_no_interval() -> None:
    level = compare_arms([arm("a", ONE[:1], 0.05), arm("b", OTHER[:1], 0.0)]).levels[0]
    assert level.repeated and all(each.difference.to_json()["low"] is None for each in level.repeated)
