"""Which levels are judged, and what is said where all items share the draws of a seed."""

from __future__ import annotations

import pytest

from harness.gates import INVALID, PASS, GatePolicy, compare_levels, gate
from harness.record import CERTIFIED, EXTERNAL, Arm, Certificate, LevelCertificate, Outcome

pytestmark = pytest.mark.unit
KEY = {"engine": "x", "noise": "relative_gaussian @ op:linear"}


def arm(levels, status=EXTERNAL, score=1.0, **key):
    outcome = Outcome(score, "right" if score else "wrong")
    outcomes = {level: {f"i{n}": {0: outcome} for n in range(300)} for level in levels}
    entries = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in levels)
    return Arm("arm", KEY | key, outcomes, Certificate(status, entries if status == CERTIFIED else ()))


def test_a_noisy_level_of_an_external_candidate_is_never_passed_over():
    result = gate(arm((0.0, 0.1)), arm((0.0,)), GatePolicy())
    assert (result.verdict, result.exit_code) == (INVALID, 4)
    assert [level.verdict for level in result.levels] == [PASS, INVALID]
    assert "external, uncertified" in " ".join(result.levels[1].reasons)


def test_a_further_level_of_a_certified_candidate_is_reported_as_not_judged():
    result = gate(arm((0.0, 0.1), CERTIFIED), arm((0.0,), CERTIFIED), GatePolicy())
    assert result.verdict == PASS
    assert any("level 0.1 was not judged" in reason for reason in result.reasons)


def test_shared_draws_are_labelled_conditional_on_their_seeds():
    noise = "relative_gaussian @ op:linear key:shared"
    one, other = (arm((0.0, 0.1), CERTIFIED, noise=noise) for _ in range(2))
    result = gate(one, other, GatePolicy())
    assert "conditional on these 1 noise seeds" in " ".join(result.levels[1].reasons)
    assert "conditional" not in " ".join(result.levels[0].reasons)
    assert "conditional on these" in " ".join(compare_levels(one, 0.1).reasons_for(0.05))
