"""The pre-registered theory over synthetic arms: confirmed, falsified, undecided, each by its thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_ind

from harness.claims import Registry
from harness.claims.theory import TheoryResult, TheoryRun, judge_theory
from harness.claims.theory_runs import published_arms

pytestmark = pytest.mark.unit

CONFIRMING = {
    "E8a": (0.75, 0.60, 0.45),
    "E8b": (0.70, 0.60, 0.45),
    "E8c": (0.70, 0.72, 0.60),
    "E8d": (0.70, 0.58, 0.40),
}
WIGGLE = (-0.002, 0.001, 0.0015, -0.0005, 0.0)


def arms(means: dict[str, tuple[float, ...]], runs: int = 5, noise: float = 1.0) -> dict[str, Sequence[TheoryRun]]:
    """``runs`` runs per arm around (clean, 5 %, 10 %)."""
    found = {}
    for name, (clean, noisy, very) in means.items():
        shifts = [noise * WIGGLE[(index + len(found)) % 5] for index in range(runs)]
        found[name] = [
            TheoryRun(f"{name}-{index}", {0.0: clean + shift, 0.05: noisy + 1.1 * shift, 0.1: very - shift})
            for index, shift in enumerate(shifts)
        ]
    return found


def outcomes(result: TheoryResult) -> dict[str, str]:
    return {criterion.name: criterion.outcome for criterion in result.criteria}


def test_arms_as_predicted_confirm_every_criterion() -> None:
    result = judge_theory(arms(CONFIRMING))
    assert set(outcomes(result).values()) == {"confirmed"} and result.outcome == "confirmed"
    (statement,) = result.criterion("better robustness").statements
    assert statement.estimate == pytest.approx(0.12, abs=0.001) and statement.low and statement.low > 0.05
    assert statement.attainable_p == pytest.approx(1 / 252) and statement.p is not None and statement.p < 1e-6
    assert statement.runs == (5, 5)


@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_forward_noise_that_is_no_better_falsifies(noise: float) -> None:
    result = judge_theory(arms({**CONFIRMING, "E8c": (0.70, 0.595, 0.45)}, noise=noise))
    found = outcomes(result)
    assert found["better robustness"] == found["not falsified"] == found["theory"] == "falsified"
    assert result.outcome == "falsified"


def test_forward_noise_without_any_effect_falsifies() -> None:
    means = {**CONFIRMING, "E8a": (0.75, 0.72, 0.5)}
    result = judge_theory(arms(means))
    assert [statement.outcome for statement in result.criterion("not falsified").statements] == [
        "confirmed",
        "falsified",
    ]
    assert result.outcome == "falsified"


def test_single_criteria_fail_by_their_own_thresholds() -> None:
    assert outcomes(judge_theory(arms({**CONFIRMING, "E8c": (0.70, 0.63, 0.6)})))["better robustness"] == "falsified"
    assert outcomes(judge_theory(arms({**CONFIRMING, "E8c": (0.72, 0.72, 0.6)})))["similar training"] == "falsified"
    assert outcomes(judge_theory(arms({**CONFIRMING, "E8d": (0.70, 0.64, 0.4)})))["poor robustness"] == "falsified"
    assert outcomes(judge_theory(arms({**CONFIRMING, "E8d": (0.70, 0.615, 0.4)})))["poor robustness"] == "confirmed"
    assert outcomes(judge_theory(arms({**CONFIRMING, "E8d": (0.74, 0.58, 0.4)})))["theory"] == "falsified"
    assert outcomes(judge_theory(arms({**CONFIRMING, "E8c": (0.70, 0.72, 0.5)})))["targets"] == "falsified"


def test_a_gain_between_none_and_five_points_leaves_the_theory_alive() -> None:
    result = judge_theory(arms({**CONFIRMING, "E8c": (0.70, 0.63, 0.6)}))
    assert outcomes(result)["not falsified"] == "confirmed" and result.outcome == "confirmed"


def test_a_wide_spread_leaves_everything_undecided() -> None:
    result = judge_theory(arms(dict.fromkeys(CONFIRMING, (0.7, 0.6, 0.45)), noise=60))
    assert set(outcomes(result).values()) <= {"undecided", "falsified"}
    assert result.outcome == "undecided" and outcomes(result)["theory"] == "undecided"
    (statement,) = result.criterion("similar training").statements
    assert statement.reason == "the interval lies on both sides"


def test_one_run_per_arm_is_always_undecided() -> None:
    result = judge_theory(arms(CONFIRMING, runs=1))
    assert set(outcomes(result).values()) == {"undecided"} and result.outcome == "undecided"
    assert result.criterion("better robustness").statements[0].reason == "one run per arm decides nothing"
    assert result.criterion("better robustness").statements[0].estimate == pytest.approx(0.12, abs=0.01)


def test_two_runs_per_arm_cannot_reach_the_level() -> None:
    (statement,) = judge_theory(arms(CONFIRMING, runs=2)).criterion("better robustness").statements
    assert statement.outcome == "undecided"
    assert statement.reason == "no p below 0.167 is attainable with 2 and 2 runs"


def test_three_runs_per_arm_can() -> None:
    result = judge_theory(arms(CONFIRMING, runs=3))
    assert outcomes(result)["better robustness"] == "confirmed"
    assert outcomes(result)["targets"] == "undecided"  # 1/8 is the least p of three runs of one arm


def test_runs_without_spread_decide_nothing() -> None:
    statement = judge_theory(arms(CONFIRMING, noise=0)).criterion("better robustness").statements[0]
    assert (statement.outcome, statement.low) == ("undecided", None) and "no spread" in statement.reason


def test_missing_arms_and_levels_leave_their_criteria_undecided() -> None:
    found = arms(CONFIRMING)
    del found["E8d"]
    result = judge_theory(found)
    assert outcomes(result)["better robustness"] == "confirmed"
    assert outcomes(result)["poor robustness"] == outcomes(result)["theory"] == result.outcome == "undecided"
    shorter = {name: [TheoryRun(run.label, {0.0: run.accuracy[0.0]}) for run in group] for name, group in found.items()}
    assert outcomes(judge_theory(shorter))["better robustness"] == "undecided"
    assert judge_theory({}).outcome == "undecided"


def test_the_similarity_test_is_that_of_statsmodels() -> None:
    found = arms({**CONFIRMING, "E8c": (0.704, 0.72, 0.6)})
    (statement,) = judge_theory(found).criterion("similar training").statements
    clean = [np.array([run.accuracy[0.0] for run in found[name]]) for name in ("E8c", "E8b")]
    assert statement.p == pytest.approx(ttost_ind(*clean, -0.01, 0.01, usevar="unequal")[0], rel=1e-6)


def test_bad_arms_are_refused() -> None:
    with pytest.raises(ValueError, match="E8e"):
        judge_theory({"E8e": []})
    with pytest.raises(ValueError, match="between 0 and 1"):
        judge_theory({"E8a": [TheoryRun("r", {0.0: 70.0})]})


def test_the_published_runs_are_one_per_arm(published: Registry) -> None:
    found = published_arms(published)
    assert {name: [run.label for run in runs] for name, runs in found.items()} == {"E8b": ["E5b"], "E8c": ["E8c-v2"]}
    assert found["E8b"][0].accuracy == {0.0: 0.78, 0.05: 0.64, 0.1: 0.5}
    assert judge_theory(found).outcome == "undecided"
