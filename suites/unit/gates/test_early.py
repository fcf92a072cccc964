"""A gate that may stop early: the same verdict from the first items as from all, and missing ones never forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.exceptions import HarnessError
from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, GatePolicy, gate
from harness.gates.early import BLOCK, EarlyPlan, Looks, plan_of
from harness.record import Arm
from harness.stats import e_processes, early_stop

pytestmark = pytest.mark.unit
Build = Callable[..., Arm]
EARLY = GatePolicy(margin=0.1, early_stop=0.5, bootstrap_resamples=0)
N = 320


def scores(right: float, seed: int, seeds: int = 1) -> list[list[int]]:
    drawn = np.random.default_rng(seed).random((N, seeds)) < right
    return drawn.astype(int).tolist()


def cut(arm: Arm, items: tuple[str, ...]) -> Arm:
    """``arm`` with these items only."""
    kept = {level: {item: cells[item] for item in items if item in cells} for level, cells in arm.outcomes.items()}
    return replace(arm, outcomes=kept)


def stopped(ours: Arm, theirs: Arm, policy: GatePolicy, seed: int = 0) -> tuple[Arm, Looks]:
    """``ours`` as an evaluation leaves it that looks after every block."""
    plan = plan_of(policy, list(theirs.outcomes), seed)
    assert plan is not None
    seen: tuple[str, ...] = ()
    for block in plan.blocks(set(theirs.outcomes[0.0])):
        seen += block
        found = plan.look(cut(ours, seen).outcomes, theirs.outcomes, seen, N)
        if found.decided:
            break
    return cut(ours, seen), found


@pytest.fixture
def reference(arm: Build) -> Arm:
    return arm({0.0: scores(0.9, 1), 0.05: scores(0.8, 2, 3)}, label="reference")


@pytest.mark.parametrize(("right", "verdict"), [(0.3, FAIL), (None, PASS)])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_first_items_give_the_verdict_of_all(
    arm: Build, reference: Arm, right: float | None, verdict: str, seed: int
) -> None:
    ours = reference if right is None else arm({0.0: scores(right, 3), 0.05: scores(right, 4, 3)})
    few, looks = stopped(ours, reference, EARLY, seed)
    assert len(looks.items) % BLOCK == 0 and 0 < len(looks.items) <= N // 2
    early, whole = gate(few, reference, EARLY, seed), gate(ours, reference, EARLY, seed)
    assert early.verdict == whole.verdict == verdict
    assert [level.early for level in early.levels] == [level.early for level in whole.levels]
    assert early.early is not None and whole.early is not None
    assert early.early.items == looks.items and early.early.saved == 1 - len(looks.items) / N
    assert whole.early.saved == 0
    for level in early.levels:
        assert level.n == len(looks.items)
        assert level.early is not None and level.early.items <= level.n
        assert level.reasons[0] == level.early.label and "% saved" in early.reasons[-1]
        assert f"stopped after {level.early.items} of {N} items" in level.reasons[0]


def test_json_names_share_order_and_what_was_saved(arm: Build, reference: Arm) -> None:
    few, _ = stopped(reference, reference, EARLY)
    data = gate(few, reference, EARLY).to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    found = data["early_stop"]
    assert (found["share"], found["alpha"], found["order_seed"], found["planned"]) == (0.5, 0.05, 0, N)
    assert found["saved"] == pytest.approx(1 - found["evaluated"] / N) and found["saved"] > 0.3
    for level in data["levels"]:
        assert level["early_stop"]["decision"] == "within"
        assert level["early_stop"]["e_within"] >= 40 > level["early_stop"]["e_beyond"]
    off = gate(reference, reference, GatePolicy(margin=0.1, bootstrap_resamples=0)).to_json()
    assert off["early_stop"] is None and all(level["early_stop"] is None for level in off["levels"])


def test_the_decision_is_that_of_the_e_process_in_seeded_order(arm: Build, reference: Arm) -> None:
    ours = arm({0.0: scores(0.6, 3), 0.05: scores(0.5, 4, 3)})
    order = EarlyPlan(0.5, 0.05, (), 5).order(set(ours.outcomes[0.0]))
    apart = [
        np.mean([ours.outcomes[0.05][item][seed].right for seed in range(3)])
        - np.mean([reference.outcomes[0.05][item][seed].right for seed in range(3)])
        for item in order
    ]
    (_, noisy) = gate(ours, reference, EARLY, 5).levels
    assert noisy.early == early_stop(apart, 0.1, alarms=2)  # beyond at either level is an alarm
    assert noisy.early != gate(ours, reference, EARLY, 6).levels[1].early


def test_what_is_not_decided_early_is_judged_at_the_alpha_that_is_left(arm: Build, reference: Arm) -> None:
    # 25 of 320 lost and none gained: Tango's bound lies above -0.12 at alpha 0.05 and at 0.025
    rows = {0.0: [[1]] * N}
    ours = arm({0.0: [[0]] * 25 + [[1]] * (N - 25)})
    policy = replace(EARLY, margin=0.12, early_stop=0.9)
    result = gate(ours, arm(rows), policy)
    (level,) = result.levels
    assert level.early is not None and level.early.decision is None
    plain = gate(ours, arm(rows), GatePolicy(margin=0.12, alpha=0.005, bootstrap_resamples=0)).levels[0]
    assert (level.verdict, level.difference) == (plain.verdict, plain.difference)
    assert "one-sided alpha 0.005" in level.reasons[0]
    assert "no early decision in 320 items" in level.reasons[1]


def test_with_all_of_alpha_on_looking_early_no_final_test_is_left(arm: Build) -> None:
    ours = arm({0.0: [[0]] * 25 + [[1]] * (N - 25)})
    (level,) = gate(ours, arm({0.0: [[1]] * N}), replace(EARLY, margin=0.08, early_stop=1.0)).levels
    assert level.verdict == INCONCLUSIVE and "none is left for a final test" in level.reasons[0]


def test_items_that_are_missing_and_not_behind_the_stop_are_worst_cased(arm: Build, reference: Arm) -> None:
    few, looks = stopped(reference, reference, EARLY)
    undecided = cut(few, looks.items[: BLOCK // 2])
    result = gate(undecided, reference, EARLY)
    assert result.verdict == INVALID and "were not measured on both sides" in " ".join(result.levels[0].reasons)
    assert result.early is not None and result.early.saved == 0
    # a hole counts as lost where the level would be within the margin
    holes = gate(cut(few, looks.items[20:]), reference, EARLY)
    assert all(level.early is not None and level.early.decision is None for level in holes.levels)
    assert PASS not in {level.verdict for level in holes.levels}


def test_unmeasured_outcomes_count_against_either_claim() -> None:
    least, most = [0.0, -1.0, 0.0], [0.0, 1.0, 0.0]
    within, beyond = e_processes(least, 0.1, most)
    assert within.tolist() == e_processes(least, 0.1)[0].tolist()
    assert beyond.tolist() == e_processes(most, 0.1)[1].tolist()
    with pytest.raises(HarnessError, match="3 differences and 1 of most"):
        e_processes(least, 0.1, [0.0])


def test_evidence_still_comes_first(arm: Build, evidence: Any, reference: Arm) -> None:
    doubted = replace(reference, certificate=evidence([0.0, 0.05], {0.05: "wrong injection count"}))
    result = gate(doubted, reference, EARLY)
    assert [level.verdict for level in result.levels] == [PASS, INVALID]
    assert "wrong injection count" in result.levels[1].reasons[0]
    floor = arm({0.0: [[1]] + [[0]] * (N - 1)})
    assert gate(floor, floor, EARLY).verdict == INVALID


def test_a_level_alone_is_not_enough_to_stop(arm: Build, reference: Arm) -> None:
    """The clean level is decided after a block, the noisy one is not: every item is evaluated."""
    theirs = arm({0.0: scores(0.9, 1), 0.05: scores(0.55, 5)})
    ours = arm({0.0: scores(0.2, 3), 0.05: scores(0.45, 6)})
    few, looks = stopped(ours, theirs, EARLY)
    decisions = [looks.levels[level].decision for level in (0.0, 0.05)]
    assert decisions == ["beyond", None] and len(looks.items) == N
    assert gate(few, theirs, EARLY).levels[0].verdict == FAIL


def test_items_that_share_draws_are_refused(arm: Build) -> None:
    shared = arm({0.0: [[1]] * 50, 0.05: [[1]] * 50}, key={"noise": "relative_gaussian @ op:linear key:shared"})
    with pytest.raises(HarnessError, match=r"early_stop 0.5 under key:shared, .* not independent"):
        gate(shared, shared, EARLY)
    assert gate(shared, shared, replace(EARLY, levels=(0.0,))).levels[0].verdict != INVALID
