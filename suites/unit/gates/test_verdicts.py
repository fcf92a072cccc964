"""The gate's verdicts on complete, well-evidenced arms."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, GatePolicy, GateResult, LevelVerdict, gate
from harness.gates.requirements import Requirement, combined_items
from harness.record import Arm
from harness.stats import bca_mean, mean_ratio, paired_mean, ratio_score, tango, wilson

pytestmark = pytest.mark.unit
Build = Callable[..., Arm]
QUICK = GatePolicy(margin=0.03, bootstrap_resamples=0)


def rows(right: int, n: int) -> list[int]:
    return [1] * right + [0] * (n - right)


def verdicts(result: GateResult) -> list[str]:
    return [level.verdict for level in result.levels]


@pytest.mark.parametrize(("n", "verdict"), [(10, INCONCLUSIVE), (177, INCONCLUSIVE), (178, PASS)])
def test_identical_right_items_need_178_for_a_margin_of_a_point_and_a_half(arm: Build, n: int, verdict: str) -> None:
    same = arm({0.0: [1] * n})
    result = gate(same, same, GatePolicy(margin=0.015, bootstrap_resamples=0))
    assert result.verdict == verdict
    if verdict == INCONCLUSIVE:
        assert result.levels[0].items_needed == 178
        assert "about 178 items would decide" in result.levels[0].reasons[0]
    else:
        assert result.levels[0].items_needed is None


@pytest.mark.parametrize(
    ("right", "verdict", "code"), [(180, PASS, 0), (140, FAIL, 1), (174, INCONCLUSIVE, 3), (186, PASS, 0)]
)
def test_one_draw_is_judged_by_tango(arm: Build, right: int, verdict: str, code: int) -> None:
    result = gate(arm({0.0: rows(right, 200)}), arm({0.0: rows(180, 200)}), QUICK)
    level = result.levels[0]
    assert (result.verdict, result.exit_code, level.verdict) == (verdict, code, verdict)
    assert level.difference == tango(max(0, 180 - right), max(0, right - 180), 200)
    assert level.accuracy == wilson(right, 200)
    assert level.baseline_accuracy == wilson(180, 200)
    assert (level.n, level.seeds, level.retention, level.bootstrap) == (200, (0,), None, None)
    assert (level.lost, level.gained) == (max(0, 180 - right), max(0, right - 180))
    assert "200 of 200 items" in level.reasons[0]
    assert "-3.00" in level.reasons[0]


def test_items_are_paired_by_hash_and_not_by_order(arm: Build) -> None:
    baseline = arm({0.0: rows(100, 200)})
    shuffled = dict(reversed(list(baseline.outcomes[0.0].items())))
    candidate = Arm("other order", baseline.key, {0.0: shuffled}, baseline.certificate)
    level = gate(candidate, baseline, QUICK).levels[0]
    assert (level.lost, level.gained, level.verdict) == (0, 0, PASS)
    swapped = gate(arm({0.0: rows(100, 200)[::-1]}), baseline, QUICK).levels[0]
    assert (swapped.lost, swapped.gained) == (100, 100)


def test_no_answer_counts_as_not_right_on_both_sides(arm: Build) -> None:
    candidate = arm({0.0: ["unparsed"] * 20 + ["truncated"] * 20 + [1] * 160})
    baseline = arm({0.0: ["truncated"] * 5 + [1] * 195})
    result = gate(candidate, baseline, QUICK)
    level = result.levels[0]
    assert (level.n, level.lost, level.gained, result.verdict) == (200, 35, 0, FAIL)
    assert level.unscored == {
        "candidate": {"unparsed": 20, "truncated": 20, "error": 0, "missing": 0},
        "baseline": {"unparsed": 0, "truncated": 5, "error": 0, "missing": 0},
    }


def seeded(seed: int, n: int, p: float, seeds: int = 5) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    found: list[list[int]] = rng.binomial(1, np.clip(rng.normal(p, 0.2, size=(n, 1)), 0, 1), size=(n, seeds)).tolist()
    return found


@pytest.mark.parametrize(("p", "verdict"), [(0.80, PASS), (0.55, FAIL)])
def test_several_seeds_are_judged_by_per_item_means(arm: Build, p: float, verdict: str) -> None:
    base, ours = seeded(1, 400, 0.8), seeded(1 if p == 0.8 else 2, 400, p)
    clean = rows(360, 400)
    result = gate(arm({0.0: clean, 0.05: ours}), arm({0.0: clean, 0.05: base}), QUICK)
    level = result.levels[1]
    assert level.verdict == result.verdict == verdict
    assert level.seeds == (0, 1, 2, 3, 4)
    assert level.difference == paired_mean(np.mean(ours, axis=1) - np.mean(base, axis=1))
    assert level.retention == mean_ratio(np.mean(ours, axis=1), np.array(clean, dtype=float))
    assert (level.lost, level.gained) == (
        int((np.array(ours) < np.array(base)).sum()),
        int((np.array(ours) > np.array(base)).sum()),
    )


def test_retention_of_one_draw_is_the_paired_ratio_of_the_candidate(arm: Build) -> None:
    noisy = [1] * 150 + [0] * 30 + [1] * 4 + [0] * 16
    candidate, baseline = arm({0.0: rows(180, 200), 0.05: noisy}), arm({0.0: rows(180, 200), 0.05: noisy})
    assert gate(candidate, baseline, QUICK).levels[1].retention == ratio_score(150, 4, 30, 16)


@pytest.mark.parametrize(("minimum", "verdict"), [(None, PASS), (0.5, PASS), (0.93, INCONCLUSIVE), (0.99, FAIL)])
def test_retention_gates_only_when_asked(arm: Build, minimum: float | None, verdict: str) -> None:
    same = arm({0.0: rows(190, 200), 0.05: rows(175, 200)})
    result = gate(same, same, GatePolicy(0.03, min_retention=minimum, bootstrap_resamples=0))
    assert verdicts(result) == [PASS, verdict]
    if verdict == INCONCLUSIVE:
        needed = result.levels[1].items_needed
        assert needed is not None
        assert needed > 200
        assert "retention" in result.levels[1].reasons[1]


def test_a_failed_level_needs_no_more_items_though_a_requirement_is_undecided(arm: Build) -> None:
    ours = arm({0.0: rows(190, 200), 0.05: rows(175, 200)})
    baseline = arm({0.0: rows(190, 200), 0.05: rows(195, 200)})
    level = gate(ours, baseline, GatePolicy(0.03, min_retention=0.93, bootstrap_resamples=0)).levels[1]
    assert level.verdict == FAIL
    assert "alarms are adjusted by Holm over 3 requirements" in level.reasons[0]
    assert "items would decide" in level.reasons[2]
    assert level.items_needed is None


def test_the_first_requirement_to_fail_or_the_last_to_pass_sets_the_items_needed() -> None:
    rising, later = Requirement(INCONCLUSIVE, "", 300), Requirement(INCONCLUSIVE, "", 500)
    falling, sooner = Requirement(INCONCLUSIVE, "", 900, falling=True), Requirement(INCONCLUSIVE, "", 800, falling=True)
    unknown, passed = Requirement(INCONCLUSIVE, "", None), Requirement(PASS, "", 10)
    assert combined_items([rising, later, passed]) == 500
    assert combined_items([rising, falling, sooner]) == 800
    assert combined_items([rising, unknown]) is None
    assert combined_items([unknown, falling]) == 900
    assert combined_items([passed]) is None


def test_a_sequence_restricts_pass_only(arm: Build) -> None:
    n = 300
    baseline = arm({0.0: rows(270, n), 0.05: rows(250, n), 0.10: rows(240, n)})
    # the middle level lost about the margin: undecided; the highest is unharmed
    undecided = arm({0.0: rows(270, n), 0.05: rows(242, n), 0.10: rows(240, n)})
    result = gate(undecided, baseline, QUICK)
    assert verdicts(result) == [PASS, INCONCLUSIVE, INCONCLUSIVE]
    assert "level 0.05 is INCONCLUSIVE" in result.levels[2].reasons[0]
    assert result.levels[2].items_needed is None
    assert result.levels[1].items_needed is not None
    assert (result.verdict, result.exit_code) == (INCONCLUSIVE, 3)
    # the same middle level, with a highest level that is destroyed
    hidden = gate(arm({0.0: rows(270, n), 0.05: rows(242, n), 0.10: rows(100, n)}), baseline, QUICK)
    assert verdicts(hidden) == [PASS, INCONCLUSIVE, FAIL]
    assert (hidden.verdict, hidden.exit_code) == (FAIL, 1)
    assert any(reason.startswith("level 0.1 FAIL") for reason in hidden.reasons)


def test_a_fail_below_keeps_higher_levels_from_passing(arm: Build) -> None:
    baseline = arm({0.0: rows(270, 300), 0.05: rows(250, 300)})
    result = gate(arm({0.0: rows(200, 300), 0.05: rows(250, 300)}), baseline, QUICK)
    assert verdicts(result) == [FAIL, INCONCLUSIVE]
    assert result.verdict == FAIL


def test_levels_are_those_of_the_baseline(arm: Build) -> None:
    n = 300
    wide, narrow = arm({0.0: rows(270, n), 0.05: rows(250, n)}), arm({0.0: rows(270, n)})
    extra = gate(wide, narrow, QUICK)
    assert [level.level for level in extra.levels] == [0.0]
    assert extra.verdict == PASS
    assert any("level 0.05 was not judged" in reason for reason in extra.reasons)
    lacking = gate(narrow, wide, QUICK)
    assert verdicts(lacking) == [PASS, INVALID]
    assert (lacking.verdict, lacking.exit_code) == (INVALID, 4)
    assert "candidate: no outcomes at level 0.05" in lacking.levels[1].reasons[0]


def test_items_needed_decides_the_scaled_table(arm: Build) -> None:
    # 40 items, 1 lost, 1 gained: repeated tables keep the proportions
    def level(copies: int, margin: float = 0.03) -> LevelVerdict:
        ours, theirs = [1] * 36 + [0, 1] + [0] * 2, [1] * 36 + [1, 0] + [0] * 2
        return gate(
            arm({0.0: ours * copies}), arm({0.0: theirs * copies}), GatePolicy(margin, bootstrap_resamples=0)
        ).levels[0]

    needed = level(1).items_needed
    assert needed is not None
    enough = -(-needed // 40)
    assert level(enough).verdict == PASS
    assert level(enough - 1).verdict == INCONCLUSIVE


def test_the_bootstrap_is_reported_and_never_decides(arm: Build) -> None:
    result = gate(arm({0.0: [1] * 10}), arm({0.0: [1] * 10}), GatePolicy(margin=0.015))
    boot = result.levels[0].bootstrap
    assert boot is not None
    assert boot.low == boot.high == 0.0  # zero width: would PASS if it decided
    assert result.verdict == INCONCLUSIVE
    ours, theirs = rows(170, 200), rows(180, 200)
    level = gate(arm({0.0: ours}), arm({0.0: theirs}), GatePolicy(bootstrap_resamples=300, bootstrap_seed=4)).levels[0]
    assert level.bootstrap == bca_mean(np.subtract(ours, theirs), 0.05, 4, 300, label="level 0")


def test_json_is_one_strict_object_with_the_agreed_fields(arm: Build) -> None:
    baseline = arm({0.0: rows(5, 200), 0.05: ["error"] * 200, 0.10: rows(160, 200)}, label="reference")
    policy = GatePolicy(bootstrap_resamples=200)
    for candidate in (baseline, arm({0.0: rows(180, 200)}), arm({0.0: [1]}, key={"engine": "other"})):
        data = gate(candidate, baseline, policy).to_json()
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        assert list(data) == [
            *(
                "verdict",
                "exit_code",
                "notes",
                "reasons",
                "levels",
                "family",
                "alpha",
                "early_stop",
                "certificate",
                "baseline",
            ),
        ]
        assert data["baseline"]["label"] == "reference"
        assert "fixed sequence" in data["family"]
        for level in data["levels"]:
            assert set(level) == {
                *("level", "verdict", "reasons", "n", "seeds", "accuracy", "baseline_accuracy", "difference"),
                *("retention", "bootstrap", "flips", "flipped", "items_needed", "adjusted", "unscored"),
                "early_stop",
            }
            assert set(level["flips"]) == {"lost", "gained"}
            for name in ("accuracy", "baseline_accuracy", "difference", "retention"):
                assert level[name] is None or set(level[name]) == {"estimate", "low", "high"}


def test_the_same_arms_give_the_same_bytes(arm: Build) -> None:
    ours, theirs = arm({0.0: rows(180, 200), 0.05: rows(150, 200)}), arm({0.0: rows(182, 200), 0.05: rows(152, 200)})
    policy = GatePolicy(bootstrap_resamples=300)
    first, second = (json.dumps(gate(ours, theirs, policy).to_json()) for _ in range(2))
    assert first == second
