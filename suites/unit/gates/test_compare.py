"""Arms over training seeds: proven replicates, one factor, and no claim from one seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import ttest_ind

from harness.exceptions import HarnessError
from harness.gates import INVALID
from harness.gates.arms import Replicate, ReplicatedArm
from harness.gates.compare import DIFFERENCE, NO_CLAIM, NO_DIFFERENCE_SHOWN, compare_arms
from harness.record import CERTIFIED, EXTERNAL, Arm, Certificate, LevelCertificate, Outcome
from harness.training_record import TrainingRecord

pytestmark = pytest.mark.unit
ITEMS, LEVELS = 200, (0.0, 0.05)
KEY = {"task": "t", "noise": "n"}
NEXT = iter(range(10**6))


def run(right: int, *, key: dict[str, str] = KEY, items: int = ITEMS, status: str = CERTIFIED) -> Arm:
    outcomes = {
        level: {
            f"i{index}": {0: Outcome(float(index < right), "right" if index < right else "wrong")}
            for index in range(items)
        }
        for level in LEVELS
    }
    levels = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in LEVELS)
    return Arm(f"run {next(NEXT)}", key, outcomes, Certificate(status, levels))


def trained(number: int, sigma: float, **fields: Any) -> TrainingRecord:
    record = TrainingRecord(
        config={"aqn.sigma": sigma, "lr": 1e-5},
        seed=number,
        data_order=f"order {number}",
        initial_losses=(1.0 + number / 100, 0.9),
        step=100,
        updates=100,
        epochs=2.0,
        dataset="d",
        template="t",
    )
    return replace(record, **fields)


def arm(label: str, rights: list[int], sigma: float, **fields: Any) -> ReplicatedArm:
    return ReplicatedArm(
        label,
        tuple(
            Replicate(run(right), f"{label}{seed}", trained(seed, sigma, **fields)) for seed, right in enumerate(rights)
        ),
    )


def problems(first: ReplicatedArm, second: ReplicatedArm, factor: str | None = "aqn.sigma") -> tuple[str, ...]:
    found = compare_arms([first, second], factor)
    assert found.verdict == INVALID and found.exit_code == 4
    return found.levels[0].reasons


def test_a_replicated_difference_is_established() -> None:
    ours, theirs = [170, 168, 171, 169], [150, 153, 149, 151]
    found = compare_arms([arm("with", ours, 0.05), arm("without", theirs, 0.0)], "aqn.sigma")
    assert (found.verdict, found.exit_code) == (DIFFERENCE, 0)
    level = found.levels[0]
    reference = ttest_ind([value / ITEMS for value in ours], [value / ITEMS for value in theirs], equal_var=False)
    assert level.difference.p == pytest.approx(reference.pvalue, abs=1e-12)
    assert level.difference.interval.low == pytest.approx(reference.confidence_interval(0.975).low, abs=1e-12)
    assert level.permutation.p == level.permutation.attainable == pytest.approx(2 / 70)
    assert level.needed == 2
    assert "Bonferroni over 2 levels" in found.family


def test_three_runs_cannot_reach_five_percent_by_permutation_and_it_says_so() -> None:
    found = compare_arms([arm("with", [170, 168, 171], 0.05), arm("without", [150, 153, 149], 0.0)])
    assert found.levels[0].permutation.attainable == pytest.approx(0.1)
    assert any("can never reach" in reason for reason in found.levels[0].reasons)


def test_a_difference_within_the_spread_is_not_established_and_the_seeds_needed_are_said() -> None:
    found = compare_arms([arm("with", [170, 150, 160], 0.05), arm("without", [155, 160, 152], 0.0)])
    assert (found.verdict, found.exit_code) == (NO_DIFFERENCE_SHOWN, 3)
    assert found.levels[0].needed > 3
    assert any("training seeds per arm (power 0.8)" in reason for reason in found.levels[0].reasons)


def test_an_interval_reaches_no_further_than_accuracies_can_be_apart() -> None:
    found = compare_arms([arm("with", [190, 40], 0.05), arm("without", [60, 180], 0.0)]).levels[0]
    assert (found.difference.interval.low, found.difference.interval.high) == (-1, 1)
    assert found.verdict == NO_DIFFERENCE_SHOWN


@pytest.mark.parametrize(("ours", "theirs"), [([190], [100]), ([190, 189, 191], [100]), ([150, 150], [100, 100])])
def test_one_seed_or_no_spread_is_no_claim(ours: list[int], theirs: list[int]) -> None:
    found = compare_arms([arm("with", ours, 0.05), arm("without", theirs, 0.0)])
    assert (found.verdict, found.exit_code) == (NO_CLAIM, 3)
    assert found.levels[0].difference.interval.estimate > 0


def test_equal_effective_configurations_are_replicates_not_arms() -> None:
    (words,) = problems(arm("targeted", [170, 168], 0.05), arm("uniform", [150, 153], 0.05), None)
    assert "same effective configuration" in words and "replicates of one arm" in words


def test_further_factors_are_named() -> None:
    other = arm("b", [150, 153], 0.0, config={"aqn.sigma": 0.0, "lr": 2e-5, "kl": True})
    (words,) = problems(arm("a", [170, 168], 0.05), other)
    assert words == "the arms differ in more than aqn.sigma: kl, lr"
    found = problems(arm("a", [170, 168], 0.05), arm("b", [150, 153], 0.0, config={"aqn.sigma": 0.05, "lr": 2e-5}))
    assert found == (
        "the arms differ in more than aqn.sigma: lr",
        "the arms do not differ in the declared factor aqn.sigma",
    )


@pytest.mark.parametrize(
    ("field", "value"), [("step", 58), ("updates", 50), ("epochs", 1.0), ("dataset", "other"), ("template", "other")]
)
def test_arms_that_went_another_way_are_invalid(field: str, value: Any) -> None:
    (words,) = problems(arm("a", [170, 168], 0.05), arm("b", [150, 153], 0.0, **{field: value}))
    assert words.startswith(f"the arms differ in {field} (")


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [("seed", 1, "training seed"), ("data_order", "x", "data order"), ("initial_losses", (1.0,), "initial losses")],
)
def test_runs_that_are_one_training_run_are_found(field: str, value: Any, name: str) -> None:
    found = problems(arm("a", [170, 168], 0.05, **{field: value}), arm("b", [150, 153], 0.0))
    assert found[-1].endswith(f"have the same {name}, so they are one training run")


def test_equal_weights_are_found_within_and_between_arms() -> None:
    ours = arm("a", [170, 168], 0.05)
    same = ReplicatedArm("a", tuple(replace(each, weights="w") for each in ours.replicates))
    assert "have the same weights" in problems(same, arm("b", [150, 153], 0.0))[0]
    first, *rest = arm("b", [150, 153], 0.0).replicates
    shared = ReplicatedArm("b", (replace(first, weights="a0"), *rest))
    assert "a and b hold the same weights (a0...)" in problems(ours, shared)


def test_runs_of_one_arm_agree_in_their_settings() -> None:
    first, second = arm("a", [170, 168], 0.05).replicates
    mixed = ReplicatedArm("a", (first, replace(second, training=trained(1, 0.07, step=90))))
    found = problems(mixed, arm("b", [150, 153], 0.0))
    assert "a: its runs differ in aqn.sigma" in found and "a: its runs differ in step (100 and 90)" in found


def test_without_a_training_record_there_is_no_replicate() -> None:
    bare = ReplicatedArm("a", tuple(replace(each, training=None) for each in arm("a", [170, 168], 0.05).replicates))
    assert "has no training.json" in problems(bare, arm("b", [150, 153], 0.0))[0]


def with_runs(found: ReplicatedArm, last: Arm) -> ReplicatedArm:
    *others, end = found.replicates
    return ReplicatedArm(found.label, (*others, replace(end, run=last)))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (run(150, key={**KEY, "task": "u"}), "measurement keys differ in task"),
        (run(150, items=ITEMS - 1), "do not have the same items at level 0"),
    ],
)
def test_runs_that_were_measured_differently_are_invalid(last: Arm, words: str) -> None:
    assert any(
        words in problem for problem in problems(arm("a", [170, 168], 0.05), with_runs(arm("b", [1, 2], 0.0), last))
    )


def test_uncertified_noise_is_invalid_and_so_is_the_whole() -> None:
    second = with_runs(arm("b", [150, 153], 0.0), run(150, status=EXTERNAL))
    found = compare_arms([arm("a", [170, 168], 0.05), second], "aqn.sigma")
    assert [level.verdict for level in found.levels][1] == INVALID and found.verdict == INVALID


def test_outcomes_that_were_not_measured_are_invalid() -> None:
    broken = run(150)
    broken.outcomes[0.0]["i3"][0] = Outcome(None, "error")  # type: ignore[index]
    found = problems(arm("a", [170, 168], 0.05), with_runs(arm("b", [150, 153], 0.0), broken))
    assert any("1 outcomes at level 0 that were not measured" in words for words in found)


def test_arguments() -> None:
    one = arm("a", [170, 168], 0.05)
    for arms in ([one], [one, one], [one, arm("b", [1], 0.0), arm("c", [1], 0.1)]):
        with pytest.raises(HarnessError, match="two arms of different names"):
            compare_arms(arms)
    with pytest.raises(HarnessError, match="alpha"):
        compare_arms([one, arm("b", [150, 153], 0.0)], None, 0.7)
