"""The gate on arms with a planted drop: verdicts as often as the planner says, wrong ones rarely; early stopping."""

from __future__ import annotations

import numpy as np
import pytest

from harness.calibration.coverage import FAST, THOROUGH, Effort, simulated
from harness.calibration.early import EarlyCase, EarlyShares, early_cases, simulate_early
from harness.calibration.gates import (
    WRONG_FAIL,
    WRONG_PASS,
    GateCase,
    GateShares,
    _of_table,
    gate_cases,
    run_cases,
    simulate,
)
from harness.gates import FAIL, PASS
from harness.gates.pairing import Pairs
from harness.gates.requirements import difference_requirement
from harness.stats import tango


def check_gate(thorough: bool) -> None:
    found = run_cases(gate_cases(thorough))
    assert [(case.case, case.problems) for case in found if case.problems] == []
    at_margin = [case for case in found if case.case.at_margin]
    assert len(at_margin) >= 3
    slack = 0.005 if thorough else 0.03
    for case in at_margin:
        assert case.observed[PASS].estimate <= WRONG_PASS + slack
        assert case.observed[FAIL].estimate <= WRONG_FAIL + slack
    same = [case for case in found if case.case.name == "A/A"]
    assert all(case.observed[FAIL].estimate < 0.01 for case in same)


@pytest.mark.contract
def test_the_gate_decides_as_often_as_predicted() -> None:
    check_gate(thorough=False)


@pytest.mark.thorough
def test_thorough_gate() -> None:
    check_gate(thorough=True)


@pytest.mark.contract
def test_a_gate_that_decides_otherwise_would_be_noticed() -> None:
    """The same draws judged at half the margin, and at twice alpha, fall outside the prediction."""
    case = GateCase("planted", 200, 0.1)
    for other in (GateCase("planted", 200, 0.1, margin=0.015), GateCase("planted", 200, 0.1, alpha=0.1)):
        observed = simulate(other, 500).observed
        assert GateShares(case, observed, 500).problems
    drop = GateCase("drop at the margin", 200, 0.1, drop=0.03)
    assert any(
        "wrong PASS" in words
        for words in GateShares(
            drop, dict.fromkeys(("PASS", "INCONCLUSIVE", "FAIL"), simulated(150, 1000)), 1000
        ).problems
    )


@pytest.mark.contract
def test_the_simulated_path_is_the_one_of_the_interval() -> None:
    rng = np.random.default_rng(0)
    case = GateCase("A/A", 150, 0.1)
    for _ in range(30):
        rest, gained, lost = (int(count) for count in rng.multinomial(150, [0.9, 0.05, 0.05]))
        found = tango(lost, gained, 150)
        expected = PASS if found.low > -0.03 else FAIL if found.high < -0.03 else "INCONCLUSIVE"
        assert _of_table(case, [rest, gained, lost, 0]) == expected


@pytest.mark.contract
def test_ten_equal_items_never_pass_and_178_do() -> None:
    assert set(simulate(GateCase("ten", 10, 0.0, margin=0.015, accuracy=1.0), 20).observed) >= {PASS}
    for n, verdict in ((10, "INCONCLUSIVE"), (177, "INCONCLUSIVE"), (178, PASS)):
        pairs = Pairs(np.ones((n, 1)), np.ones((n, 1)))
        assert difference_requirement(pairs, 0.015, 0.05).verdict == verdict


def check_early(effort: Effort) -> dict[float, EarlyShares]:
    found = {case.drop: simulate_early(case, count) for case, count in early_cases(effort)}
    assert [share.problems for share in found.values() if share.problems] == []
    assert found[0.08].items < 0.35 * found[0.08].case.n
    assert 0.55 * 1319 < found[0.0].items < 0.8 * 1319
    assert found[0.03].stopped.estimate < 0.05
    return found


@pytest.mark.contract
def test_early_stopping_saves_items_and_keeps_the_error_rate() -> None:
    check_early(FAST)


def check_early_gate(n: int, repetitions: int, early_stop: float = 0.5, alpha: float = 0.05) -> GateShares:
    """The gate itself, early or at the end, at a drop equal to the margin."""
    case = GateCase("at the margin", n, 0.1, drop=0.03, early_stop=early_stop, alpha=alpha)
    found = simulate(case, repetitions)
    assert found.case.predicted is None and found.problems == ()
    assert found.observed[PASS].low <= alpha
    return found


@pytest.mark.contract
def test_a_gate_that_may_stop_early_keeps_its_error_rate() -> None:
    check_early_gate(200, 400)
    early, late = (simulate(GateCase("planted", 200, 0.14, drop=0.12, early_stop=share), 60) for share in (0.5, 0.0))
    assert early.observed[FAIL].estimate > 0.85 and late.observed[FAIL].estimate > 0.85


@pytest.mark.thorough
@pytest.mark.parametrize(("n", "share", "alpha"), [(200, 0.5, 0.05), (500, 0.9, 0.05), (1319, 0.5, 0.1)])
def test_thorough_gate_that_may_stop_early(n: int, share: float, alpha: float) -> None:
    found = check_early_gate(n, 4000, share, alpha)
    for verdict, most in ((PASS, alpha), (FAIL, alpha + WRONG_FAIL - 0.05)):
        assert found.observed[verdict].estimate <= most + 0.005


@pytest.mark.contract
def test_looking_after_every_item_alone_errs_less_than_alpha() -> None:
    """All of alpha on early stopping, the drop equal to the margin: Ville's inequality, over both sides."""
    found = simulate_early(EarlyCase(0.03, n=600, alpha=0.1, share=1.0), 1500)
    for share in found.decided.values():
        assert share.low <= 0.1
        assert share.estimate <= 0.1
    # the same looks with an interval that is made for one look err far more often
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(150):
        values = rng.choice([-1.0, 1.0, 0.0], size=600, p=[0.065, 0.035, 0.9])
        sums = [np.cumsum(values == sign) for sign in (-1.0, 1.0)]
        looks = range(50, 601, 25)
        wrong += any(tango(int(sums[0][n - 1]), int(sums[1][n - 1]), n, 0.1).low > -0.03 for n in looks)
    assert wrong / 150 > 0.15


@pytest.mark.thorough
def test_thorough_early_stopping() -> None:
    found = check_early(THOROUGH)
    for share in found[0.03].decided.values():
        assert share.estimate <= 0.055
