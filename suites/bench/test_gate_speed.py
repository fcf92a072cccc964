"""A gate over GSM8K's 1,319 items, three levels and five seeds with its bootstraps: how long, beside its parts."""

from __future__ import annotations

import time

import numpy as np
import pytest

from harness.calibration.gates import LEVELS, SEEDS, synthetic_arm
from harness.gates import GatePolicy, gate

pytestmark = pytest.mark.bench
ITEMS, RESAMPLES, ROUNDS = 1319, 10_000, 3


def test_a_gate_of_full_size(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)

    def scores(drop: float) -> dict[float, np.ndarray]:
        return {
            level: (rng.random((ITEMS, SEEDS if level else 1)) < 0.75 - drop - level / 10).astype(np.int64)
            for level in LEVELS
        }

    candidate, baseline = synthetic_arm("candidate", scores(0.01)), synthetic_arm("baseline", scores(0.0))
    seconds = {}
    for name, resamples in (("whole", RESAMPLES), ("without bootstraps", 0)):
        policy, best = GatePolicy(bootstrap_resamples=resamples), float("inf")
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            result = gate(candidate, baseline, policy)
            best = min(best, time.perf_counter() - begun)
        seconds[name] = best
        assert [level.n for level in result.levels] == [ITEMS] * 3
        assert all((level.bootstrap is None) == (resamples == 0) for level in result.levels)
    with capsys.disabled():
        parts = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
        print(f"\ngate, {ITEMS} items x {len(LEVELS)} levels x {SEEDS} seeds, {RESAMPLES} resamples: {parts}")
