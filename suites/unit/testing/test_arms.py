"""Sides of a gate in memory."""

from __future__ import annotations

import pytest

from harness.gates import FAIL, INVALID, PASS, GatePolicy, gate
from harness.testing import make_arm, make_certificate

pytestmark = pytest.mark.unit


def test_outcomes_are_those_that_are_listed() -> None:
    arm = make_arm({0.0: [1, 0, None, "error"], 0.05: [[1, 0], (0, 0)]}, seeds=None)
    assert set(arm.outcomes[0.0]) == {"i0000", "i0001", "i0003"}
    assert arm.outcomes[0.0]["i0003"][0].reason == "error"
    assert [cell.score for cell in arm.outcomes[0.05]["i0000"].values()] == [1.0, 0.0]


def test_they_are_gated_like_runs() -> None:
    policy = GatePolicy(bootstrap_resamples=0, positive_control=False)
    good, bad = make_arm({0.0: [1] * 90 + [0] * 10}), make_arm({0.0: [1] * 50 + [0] * 50})
    assert gate(good, good, policy).verdict == PASS and gate(bad, good, policy).verdict == FAIL
    damaged = make_arm({0.0: [1] * 100}, evidence=make_certificate([0.0], {0.0: "nothing was counted"}))
    assert gate(damaged, good, policy).verdict == INVALID
