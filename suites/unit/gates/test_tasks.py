"""Several tasks under one policy: one family over all their levels, and a verdict that no task can hide from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.exceptions import HarnessError
from harness.gates import gate
from harness.gates.forecast import forecast, forecast_tasks, joint_odds, joint_sentence
from harness.gates.policy import HOLM, GatePolicy
from harness.gates.tasks import gate_tasks
from harness.record import Arm
from harness.testing import make_arm, make_certificate

pytestmark = pytest.mark.unit

POLICY = GatePolicy(margin=0.05, bootstrap_resamples=0, positive_control=False)
N = 400


def arms(lost: int, gained: int = 0, levels: tuple[float, ...] = (0.0,)) -> tuple[Arm, Arm]:
    """Candidate and baseline of 400 items, 320 of them right in the baseline."""
    right, wrong = [1] * 320 + [0] * 80, [0] * lost + [1] * (320 - lost + gained) + [0] * (80 - gained)
    return make_arm(dict.fromkeys(levels, wrong)), make_arm(dict.fromkeys(levels, right))


SAME, SLIGHT, BROKEN = arms(0), arms(20), arms(80)


def test_one_task_is_judged_as_it_is_alone() -> None:
    for pair in (SAME, SLIGHT, BROKEN, arms(3, levels=(0.0, 0.05))):
        alone, found = gate(*pair, POLICY), gate_tasks({"a": pair}, POLICY)
        assert found.verdict == alone.verdict and found.exit_code == alone.exit_code
        assert [level.to_json() for level in found.results["a"].levels] == [x.to_json() for x in alone.levels]


@pytest.mark.parametrize(
    ("pairs", "verdict", "code"),
    [
        ({"a": SAME, "b": SAME}, "PASS", 0),
        ({"a": SAME, "b": SLIGHT}, "INCONCLUSIVE", 3),
        ({"a": BROKEN, "b": SLIGHT}, "FAIL", 1),
        ({"a": BROKEN, "b": SAME}, "FAIL", 1),
    ],
)
def test_the_whole_is_as_bad_as_its_worst_task(pairs: dict, verdict: str, code: int) -> None:
    found = gate_tasks(pairs, POLICY)
    assert (found.verdict, found.exit_code) == (verdict, code)
    for task, result in found.results.items():
        assert result.family == found.family and f"the verdict over all of them is {verdict}" in result.notes[-1]
        assert task in found.family


def test_a_task_without_evidence_or_without_a_run_makes_the_whole_invalid() -> None:
    candidate, baseline = SAME
    bare = replace(candidate, certificate=make_certificate([0.0], {0.0: "no noise"}))
    for found in (
        gate_tasks({"a": SAME, "b": (bare, baseline)}, POLICY),
        gate_tasks({"a": SAME, "b": (replace(candidate, key={"engine": "other"}), baseline)}, POLICY),
        gate_tasks({"a": SAME}, POLICY, missing={"b": "there is no run of it"}),
        gate_tasks({}, POLICY, missing={"b": "there is no run of it"}),
        gate_tasks({"a": BROKEN}, POLICY, missing={"b": "there is no run of it"}),
    ):
        assert (found.verdict, found.exit_code) == ("INVALID", 4)
        assert found.to_json()["tasks"]["b"]["verdict"] == "INVALID"
        assert any(reason.startswith("b INVALID: ") for reason in found.reasons)


def test_alarms_are_adjusted_over_all_tasks() -> None:
    """A drop that FAILs alone, with p just below alpha, is one of many hypotheses beside other tasks."""
    lost = next(n for n in range(20, 80) if gate(*arms(n), POLICY).verdict == "FAIL")
    barely = arms(lost)
    assert gate_tasks({"a": barely}, POLICY).verdict == "FAIL"
    found = gate_tasks({"a": barely, "b": SAME, "c": SAME}, POLICY)
    assert found.verdict == found.results["a"].verdict == "INCONCLUSIVE"
    assert "alarms are adjusted by Holm over 3 requirements" in found.results["a"].levels[0].reasons[1]
    assert "3 tasks (a, b, c): 3 levels, 3 requirements" in found.family


def test_any_wrong_fail_over_all_tasks_is_held_at_alpha() -> None:
    """Four tasks whose true drop is the margin: unadjusted, a FAIL of any would be about four times as frequent."""
    rng = np.random.default_rng(20261129)
    together = apart = 0
    rounds = 150
    for _ in range(rounds):
        pairs = {}
        for task in "abcd":
            draws = rng.random(300)
            ours = [1 if d < 0.70 else 0 for d in draws]
            theirs = [1 if d < 0.75 else 0 for d in draws]
            flips = rng.random(300) < 0.05
            ours = [1 - value if flip else value for value, flip in zip(ours, flips, strict=True)]
            theirs = [1 - value if flip else value for value, flip in zip(theirs, flips, strict=True)]
            pairs[task] = make_arm({0.0: ours}), make_arm({0.0: theirs})
        together += gate_tasks(pairs, replace(POLICY, margin=0.05)).verdict == "FAIL"
        apart += any(gate(*pair, replace(POLICY, margin=0.05)).verdict == "FAIL" for pair in pairs.values())
    assert together <= 0.11 * rounds  # 0.05 and three standard errors
    assert apart > together


def test_holm_for_pass_counts_the_levels_of_all_tasks() -> None:
    lost = next(n for n in range(60) if gate(*arms(n), POLICY).verdict != "PASS") - 1
    policy = replace(POLICY, family=HOLM)
    assert gate_tasks({"a": arms(lost)}, policy).verdict == "PASS"
    assert gate_tasks({"a": arms(lost), "b": SAME}, policy).verdict == "PASS"  # the second largest p is far smaller
    assert gate_tasks({"a": arms(lost), "b": arms(lost)}, policy).verdict == "INCONCLUSIVE"


def test_a_rule_for_a_level_holds_where_there_is_that_level(refusal: Callable[..., str]) -> None:
    noisy = arms(5, levels=(0.0, 0.1))
    policy = replace(POLICY, margins=((0.1, 0.3),))
    assert gate_tasks({"a": SAME, "b": noisy}, policy).verdict == "PASS"
    assert "margin_at of level 0.1" in refusal(gate_tasks, {"a": SAME}, policy)


def test_early_stopping_is_refused(refusal: Callable[..., str]) -> None:
    line = refusal(gate_tasks, {"a": SAME, "b": SAME}, replace(POLICY, early_stop=0.5), kind=HarnessError)
    assert line.startswith("--early-stop 0.5 with several tasks")


def test_the_odds_beforehand_are_those_of_the_whole_family() -> None:
    _, baseline = arms(0, levels=(0.0, 0.05))
    alone, found = forecast(baseline, POLICY), forecast_tasks({"a": baseline, "b": baseline}, POLICY)
    levels = [level for own in found.values() for level in own]
    whole = joint_odds(levels)
    assert whole.passing == pytest.approx(joint_odds(alone).passing ** 2)
    assert all(level.alarm < other.alarm for level, other in zip(found["a"], alone, strict=True))
    assert joint_sentence(levels, 2).startswith("the whole gate over 4 levels of 2 tasks, if nothing changed: PASS ")
