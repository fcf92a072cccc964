"""No evidence, no verdict: what makes a level INVALID."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.exceptions import HarnessError
from harness.gates import FAIL, INVALID, PASS, GatePolicy, GateResult, gate
from harness.record import EXTERNAL, INVALID_EVIDENCE, Arm, Certificate, ControlResult, LevelCertificate, Outcome

pytestmark = pytest.mark.unit
Build = Callable[..., Arm]
QUICK = GatePolicy(margin=0.03, bootstrap_resamples=0)


def rows(right: int, n: int) -> list[Any]:
    return [1] * right + [0] * (n - right)


def verdicts(result: GateResult) -> list[str]:
    return [level.verdict for level in result.levels]


def words(result: GateResult, index: int = 0) -> str:
    return "; ".join(result.levels[index].reasons)


def test_different_keys_make_every_level_invalid_and_are_named(arm: Build) -> None:
    levels = {0.0: rows(180, 200), 0.05: rows(170, 200)}
    ours = arm(levels, key={"engine": "vllm", "dataset": "d1", "dtype": "float32"})
    theirs = arm(levels, key={"engine": "transformers", "dataset": "d1", "scorer": "strict"})
    result = gate(ours, theirs, QUICK)
    assert verdicts(result) == [INVALID, INVALID]
    assert result.exit_code == 4
    for level in result.levels:
        text = "; ".join(level.reasons)
        assert "engine: candidate 'vllm', baseline 'transformers'" in text
        assert "dtype: candidate 'float32', baseline (missing)" in text
        assert "scorer: candidate (missing), baseline 'strict'" in text
        assert "dataset" not in text
        assert level.difference is None
        assert level.accuracy is None
    assert len(result.reasons) == 3


def test_no_measurement_key_at_all_is_no_evidence(arm: Build) -> None:
    nameless = arm({0.0: [1] * 300}, key={})
    assert gate(nameless, nameless, QUICK).verdict == INVALID


def test_different_noise_seeds_are_named(arm: Build) -> None:
    clean, noisy = rows(180, 200), [[1, 1]] * 200
    ours = arm({0.0: clean, 0.05: noisy})
    theirs = arm({0.0: clean, 0.05: [[1, 1, 1]] * 200})
    result = gate(ours, theirs, QUICK)
    assert verdicts(result) == [PASS, INVALID]
    assert "noise seeds differ: candidate 0, 1, baseline 0, 1, 2" in words(result, 1)


@pytest.mark.parametrize(("damaged", "role"), [(0, "candidate: "), (1, "baseline: ")])
def test_a_certificate_with_a_problem_makes_its_level_invalid(
    arm: Build, evidence: Callable[..., Certificate], damaged: int, role: str
) -> None:
    levels = {0.0: rows(180, 200), 0.05: rows(180, 200)}
    sides = [arm(levels), arm(levels)]
    sides[damaged] = arm(levels, evidence=evidence([0.0, 0.05], {0.05: "counted 0 of 100 rows"}))
    result = gate(sides[0], sides[1], QUICK)
    assert verdicts(result) == [PASS, INVALID]
    assert role + "counted 0 of 100 rows" in words(result, 1)


def test_a_level_without_a_ledger_and_a_status_without_words_are_invalid(
    arm: Build, evidence: Callable[..., Certificate]
) -> None:
    levels = {0.0: rows(180, 200), 0.05: rows(180, 200)}
    unproven = gate(arm(levels, evidence=evidence([0.0])), arm(levels), QUICK)
    assert verdicts(unproven) == [PASS, INVALID]
    assert "no ledger" in words(unproven, 1)
    silent = dataclasses.replace(evidence([0.0, 0.05]), status=INVALID_EVIDENCE)
    assert verdicts(gate(arm(levels, evidence=silent), arm(levels), QUICK)) == [INVALID, INVALID]


@pytest.mark.parametrize("role", ["candidate", "baseline"])
def test_an_external_arm_is_judged_at_level_0_only_and_says_so(arm: Build, role: str) -> None:
    levels = {0.0: rows(180, 200), 0.05: rows(180, 200)}
    external, own = arm(levels, evidence=Certificate(EXTERNAL)), arm(levels)
    result = gate(external, own, QUICK) if role == "candidate" else gate(own, external, QUICK)
    assert verdicts(result) == [PASS, INVALID]
    for index in range(2):
        assert words(result, index).count(f"{role}: external, uncertified") == 1
    assert result.verdict == INVALID
    clean_only = gate(arm({0.0: rows(180, 200)}, evidence=Certificate(EXTERNAL)), arm({0.0: rows(180, 200)}), QUICK)
    assert (clean_only.verdict, clean_only.exit_code) == (PASS, 0)


def test_no_pairs_are_no_evidence(arm: Build) -> None:
    baseline = arm({0.0: [1] * 200})
    disjoint = arm({0.0: [None] * 200 + [1] * 200})
    assert "no item is in both arms" in words(gate(disjoint, baseline, QUICK))
    failed = gate(arm({0.0: ["error"] * 200}), baseline, QUICK)
    assert failed.verdict == INVALID
    assert "none of 200 items" in words(failed)
    empty = gate(arm({0.0: []}), baseline, QUICK)
    assert empty.verdict == INVALID
    assert "candidate: no outcomes at level 0" in words(empty)
    assert gate(arm({}), arm({}), QUICK).verdict == INVALID


def with_gaps(levels: Sequence[Any], gap: Any, positions: Sequence[int]) -> list[Any]:
    found = list(levels)
    for position in positions:
        found[position] = gap
    return found


@pytest.mark.parametrize("gap", ["error", None])
def test_unmeasured_items_that_could_turn_a_pass_make_it_invalid(arm: Build, gap: Any) -> None:
    n = 400
    baseline = arm({0.0: rows(360, n)})
    few = gate(arm({0.0: with_gaps(rows(360, n), gap, [0])}), baseline, QUICK)
    assert few.verdict == PASS
    assert few.levels[0].n == n - 1
    many = gate(arm({0.0: with_gaps(rows(360, n), gap, range(15))}), baseline, QUICK)
    assert many.verdict == INVALID
    assert "15 of 400 items were not measured" in words(many)
    assert "counted as lost" in words(many)
    assert "PASS into" in words(many)
    assert "gained" not in words(many)
    assert many.levels[0].unscored["candidate"]["error" if gap else "missing"] == 15


def test_unmeasured_items_that_could_turn_a_fail_make_it_invalid(arm: Build) -> None:
    n = 400
    # 20 lost of 370 measured; the baseline has the 30 unmeasured ones wrong, so all 30 could be gains
    ours = with_gaps(rows(350, n), "error", range(370, 400))
    result = gate(arm({0.0: ours}), arm({0.0: rows(370, n)}), QUICK)
    assert result.verdict == INVALID
    assert "counted as gained they would turn FAIL into PASS" in words(result)
    hopeless = with_gaps(rows(200, n), "error", range(200, 220))
    assert gate(arm({0.0: hopeless}), arm({0.0: rows(370, n)}), QUICK).verdict == FAIL


def test_what_the_other_side_measured_keeps_its_score_in_the_worst_case(arm: Build) -> None:
    # 15 items fail to be measured, but the baseline has them wrong: nothing can be lost there
    n = 400
    baseline = arm({0.0: rows(360, n)})
    result = gate(arm({0.0: with_gaps(rows(360, n), "error", range(385, 400))}), baseline, QUICK)
    assert result.verdict == PASS


def test_a_baseline_that_lacks_items_is_worst_cased_too(arm: Build) -> None:
    n = 400
    result = gate(arm({0.0: rows(360, n)}), arm({0.0: with_gaps(rows(360, n), None, range(370, 400))}), QUICK)
    assert result.verdict == INVALID
    assert "30 of 400 items" in words(result)


def test_a_single_missing_seed_leaves_the_other_seeds_of_the_item_known(arm: Build) -> None:
    n = 400
    clean, noisy = rows(380, n), [[1, 1, 1]] * 380 + [[0, 0, 0]] * 20
    baseline = arm({0.0: clean, 0.05: noisy})
    gaps = with_gaps(noisy, [1, "error", 1], range(12))
    result = gate(arm({0.0: clean, 0.05: gaps}), baseline, QUICK)
    # 12 * 1/3 of an item at the worst: 1 point; whole items would be 3 points
    assert result.levels[1].verdict == PASS
    assert result.levels[1].n == n - 12
    whole = with_gaps(noisy, ["error"] * 3, range(12))
    assert gate(arm({0.0: clean, 0.05: whole}), baseline, QUICK).levels[1].verdict == INVALID


def test_unmeasured_items_are_worst_cased_in_a_gated_retention(arm: Build) -> None:
    n = 400
    baseline = arm({0.0: rows(360, n), 0.05: rows(340, n)})
    wide, gated = (GatePolicy(margin=0.2, min_retention=minimum, bootstrap_resamples=0) for minimum in (None, 0.90))
    assert verdicts(gate(baseline, baseline, gated)) == [PASS, PASS]
    # within the margin even if all twenty were lost, but then the retention would be 320 / 360
    gaps = arm({0.0: rows(360, n), 0.05: with_gaps(rows(340, n), "error", range(20))})
    assert verdicts(gate(gaps, baseline, wide)) == [PASS, PASS]
    assert verdicts(gate(gaps, baseline, gated)) == [PASS, INVALID]


def test_a_baseline_at_the_floor_makes_every_level_invalid(arm: Build) -> None:
    n = 200
    result = gate(arm({0.0: rows(190, n), 0.05: rows(190, n)}), arm({0.0: rows(20, n), 0.05: rows(190, n)}), QUICK)
    assert verdicts(result) == [INVALID, INVALID]
    for index in range(2):
        assert "baseline's clean accuracy is at the floor" in words(result, index)
    above = arm({0.0: rows(30, n)})
    assert "floor" not in words(gate(above, above, QUICK))
    assert "floor" in words(gate(above, above, GatePolicy(floor=0.2, bootstrap_resamples=0)))


def test_a_destroyed_candidate_fails_and_a_lucky_one_cannot_pass(arm: Build) -> None:
    n = 200
    destroyed = gate(arm({0.0: rows(2, n), 0.05: rows(0, n)}), arm({0.0: rows(180, n), 0.05: rows(150, n)}), QUICK)
    assert verdicts(destroyed) == [FAIL, FAIL]
    assert destroyed.exit_code == 1
    assert destroyed.levels[1].retention is None
    wide = GatePolicy(margin=0.5, bootstrap_resamples=0)
    lucky = gate(arm({0.0: rows(20, n)}), arm({0.0: rows(40, n)}), wide)
    assert lucky.verdict == INVALID
    assert "candidate's clean accuracy is at the floor" in words(lucky)


def test_without_a_clean_level_nothing_shows_what_could_be_lost(arm: Build) -> None:
    same = arm({0.05: rows(180, 200)})
    result = gate(same, same, QUICK)
    assert result.verdict == INVALID
    assert "level 0 cannot be paired" in words(result)


def test_gated_retention_that_is_undefined_cannot_pass_but_hides_no_fail(arm: Build) -> None:
    policy = GatePolicy(margin=0.5, min_retention=0.5, bootstrap_resamples=0)
    baseline = arm({0.0: rows(40, 200), 0.05: rows(40, 200)})
    undefined = gate(arm({0.0: rows(20, 200), 0.05: rows(20, 200)}), baseline, policy)
    assert undefined.levels[1].verdict == INVALID
    assert "retention is undefined" in words(undefined, 1)
    strict = GatePolicy(min_retention=0.5, bootstrap_resamples=0)
    lost = gate(arm({0.0: rows(2, 200), 0.05: rows(2, 200)}), arm({0.0: rows(180, 200), 0.05: rows(150, 200)}), strict)
    assert verdicts(lost) == [FAIL, FAIL]


def test_an_invalid_level_outranks_a_failed_one(arm: Build, evidence: Callable[..., Certificate]) -> None:
    levels: Mapping[float, list[Any]] = {0.0: rows(180, 200), 0.05: rows(100, 200)}
    bad = evidence([0.0, 0.05], {0.0: "noise in the clean arm"})
    result = gate(arm(levels, evidence=bad), arm({0.0: rows(180, 200), 0.05: rows(180, 200)}), QUICK)
    assert verdicts(result) == [INVALID, FAIL]
    assert result.exit_code == 4
    assert any("level 0.05 FAIL" in reason for reason in result.reasons)


@pytest.mark.parametrize("score", [7.0, -1.0, float("nan")])
def test_a_score_outside_0_to_1_is_refused(arm: Build, score: float) -> None:
    good = arm({0.0: [1, 1]})
    broken = dataclasses.replace(good, outcomes={0.0: {"i0000": {0: Outcome(score, "right")}}})
    with pytest.raises(HarnessError, match="i0000"):
        gate(broken, good, QUICK)


def test_numbers_of_an_invalid_level_stay_strict_json(arm: Build) -> None:
    ledger = LevelCertificate(0.0, 0, 0, 0, 0, 0, float("nan"), float("inf"), 0)
    odd = Certificate("invalid", (ledger,), problems=("nothing ran",))
    data = gate(arm({0.0: [1]}, evidence=odd), arm({0.0: [1]}), GatePolicy()).to_json()
    json.dumps(data, allow_nan=False)
    assert data["certificate"]["levels"][0]["rms_low"] is None
    assert data["levels"][0]["n"] == 1
    assert data["verdict"] == INVALID
    assert np.isclose(data["levels"][0]["difference"]["low"], -0.730134, atol=1e-5)


def test_a_verdict_needs_the_positive_control_of_both_sides(arm: Build) -> None:
    levels = {0.0: rows(180, 200)}
    whole, bare = arm(levels), arm(levels)
    bare = replace(bare, certificate=replace(bare.certificate, uncontrolled=True))
    for candidate, baseline, role in ((bare, whole, "candidate"), (whole, bare, "baseline")):
        refused = gate(candidate, baseline, QUICK)
        assert refused.verdict == INVALID
        assert any(f"{role}: no positive control ran, and a verdict needs one" in words for words in refused.reasons)
    without = replace(QUICK, positive_control=False)
    allowed = gate(bare, whole, without)
    assert allowed.verdict == PASS
    first = "the policy asks for no positive control (positive_control = false)"
    assert allowed.reasons[0] == f"{first}: none ran for candidate"
    assert gate(whole, whole, without).reasons[0] == f"{first}: both sides ran theirs"
    assert not any("positive control" in words for words in gate(whole, whole, QUICK).reasons)


def test_a_certificate_without_control_stays_so_in_a_file(arm: Build) -> None:
    certified = arm({0.0: rows(180, 200)}).certificate
    controlled = replace(certified, control=ControlResult(1.0, 2, 2, 0, 2))
    read = [Certificate.from_json(each.to_json()).uncontrolled for each in (certified, controlled)]
    assert read == [True, False]


def test_a_floor_that_the_task_declares_holds_for_both_sides(arm: Build) -> None:
    """65 of 100 pairs are above 50 %, 55 are not: who guesses cannot PASS, and is no baseline."""
    sound, guessing = (replace(arm({0.0: [[1]] * right + [[0]] * (100 - right)}), floor=0.5) for right in (65, 55))
    wide = GatePolicy(margin=0.4, bootstrap_resamples=0)
    assert gate(sound, sound, wide).verdict == PASS
    assert gate(guessing, replace(sound, floor=None), wide).verdict == INVALID
    assert "candidate's clean accuracy is at the floor" in words(gate(guessing, sound, wide))
    assert "is below 50.00 %" in words(gate(guessing, sound, wide))
    assert "baseline's clean accuracy is at the floor" in words(gate(guessing, guessing, wide))
    assert gate(replace(guessing, floor=None), replace(sound, floor=None), wide).verdict == PASS


def test_a_floor_below_the_task_s_own_is_said_first(arm: Build) -> None:
    guessing = replace(arm({0.0: [[1]] * 55 + [[0]] * 45}), floor=0.5)
    lower = gate(guessing, guessing, GatePolicy(margin=0.4, floor=0.2, bootstrap_resamples=0))
    assert lower.verdict == PASS
    assert lower.notes == ("the policy's floor of 20 % lies below the 50 % under which the task measures nothing",)
    assert not gate(guessing, guessing, GatePolicy(margin=0.4, floor=0.5, bootstrap_resamples=0)).notes
