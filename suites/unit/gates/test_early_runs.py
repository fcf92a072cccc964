"""Runs that were evaluated to stop early: whole for their own rule, partial for all else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import NotComparableError
from harness.gates.early import BLOCK, EarlyPlan
from harness.gates.early_runs import is_finished, run_to_judge
from harness.record import CERTIFIED, RIGHT, Arm, Certificate, Outcome
from harness.runs.loaded import complete_run, load_run
from harness.runs.store import Store

pytestmark = pytest.mark.unit

LEVELS = (0.0, 0.05)
PLAN = EarlyPlan(0.5, 0.05, tuple((level, 0.1) for level in LEVELS), 3, "b1")
ITEMS = tuple(f"i{index}" for index in range(4 * BLOCK))
BASELINE = Arm(
    "baseline",
    {},
    {
        level: {item: {seed: Outcome(1.0, RIGHT) for seed in range(2 if level else 1)} for item in ITEMS}
        for level in LEVELS
    },
    Certificate(CERTIFIED),
)


@pytest.fixture
def early_run(make_run: Any, make_result: Any, make_counts: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes a run of the first ``count`` items in order, all wrong, as an evaluation by ``PLAN`` would."""

    def build(
        count: int, score: float = 0.0, control: bool = True, skip: Sequence[tuple[str, float, int]] = ()
    ) -> Path:
        path = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        order = PLAN.order(ITEMS)
        manifest = make_run.manifest(order, LEVELS, 2, early_stop=PLAN.to_json())
        with Store.create(path, manifest) as store:
            store.add_questions(dict.fromkeys(order, "?"), dict.fromkeys(order, "5"))
            for level in LEVELS:
                keys = [(item, level, seed) for item in order[:count] for seed in range(2 if level else 1)]
                results = [make_result(*key, score) for key in keys if key not in skip]
                store.add_batch(results, make_counts(results, level), make_run.audits(store, level))
            if control:
                store.set_control(make_run.controlled(store))
            make_run.replay(store)
        return path

    return build


def test_a_stopped_run_is_whole_for_its_own_rule(early_run: Callable[..., Path]) -> None:
    run = run_to_judge(early_run(BLOCK), PLAN, BASELINE)
    assert run.early_rule == PLAN.to_json()
    assert run.arm.certificate.status == CERTIFIED
    assert set(run.arm.outcomes[0.0]) == set(PLAN.blocks(ITEMS)[0])
    assert run.missing == 3 * 3 * BLOCK and not run.complete


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (None, r"this gate has none: give --early-stop 0.5"),
        (replace(PLAN, share=0.4), r"differs in share \(0.5 there, 0.4 now\)"),
        (replace(PLAN, alpha=0.1), r"differs in alpha \(0.05 there, 0.1 now\)"),
        (replace(PLAN, order_seed=4), r"differs in order_seed \(3 there, 4 now\)"),
        (replace(PLAN, baseline="b2"), r"differs in baseline \(b1 there, b2 now\)"),
        (replace(PLAN, margins=((0.0, 0.1),)), r"differs in margins"),
    ],
)
@pytest.mark.parametrize("count", [BLOCK, len(ITEMS)])
def test_no_other_rule_may_judge_it(
    early_run: Callable[..., Path], refusal: Callable[..., str], plan: EarlyPlan | None, words: str, count: int
) -> None:
    with pytest.raises(NotComparableError, match=words):
        run_to_judge(path := early_run(count), plan, BASELINE)
    text = refusal(run_to_judge, path, plan, BASELINE, kind=NotComparableError, code=4)
    assert "was evaluated to stop early by a rule of its own" in text


def test_any_other_use_sees_it_as_partial(early_run: Callable[..., Path], refusal: Callable[..., str]) -> None:
    text = refusal(complete_run, early_run(BLOCK), kind=NotComparableError, code=4)
    assert f"was evaluated to stop early and holds {BLOCK} of {len(ITEMS)} items" in text
    assert "harness gate --early-stop 0.5" in text
    assert complete_run(early_run(len(ITEMS))).complete  # nothing was left out


@pytest.mark.parametrize(
    ("count", "fields"),
    [
        (BLOCK - 1, {}),
        (BLOCK, {"control": False}),
        (BLOCK, {"score": 1.0}),
        (BLOCK, {"skip": [(PLAN.order(ITEMS)[3], 0.05, 1)]}),
    ],
)
def test_an_unfinished_one_is_no_evidence(
    early_run: Callable[..., Path], refusal: Callable[..., str], count: int, fields: dict[str, Any]
) -> None:
    path = early_run(count, **fields)
    assert not is_finished(load_run(path), PLAN, BASELINE)
    text = refusal(run_to_judge, path, PLAN, BASELINE, kind=NotComparableError, code=4)
    assert "an unfinished run is no evidence" in text


def test_a_run_that_went_to_the_end_is_finished(early_run: Callable[..., Path]) -> None:
    plan = replace(PLAN, margins=tuple((level, 0.0) for level in LEVELS))  # equal outcomes never decide a margin of 0
    assert is_finished(load_run(early_run(len(ITEMS), 1.0)), plan, BASELINE)


def test_a_run_without_a_rule_may_be_judged_by_any(make_run: Any, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", {0.0: [[1], [0]], 0.05: [[1, 0], [0, 0]]})
    assert run_to_judge(path, PLAN, BASELINE).complete
    assert run_to_judge(path, None, BASELINE).early_rule is None
