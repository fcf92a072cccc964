"""What the replay adds to an evaluation: its seconds over those of the rest, in one run."""

from __future__ import annotations

import time

import pytest

from harness.evaluate import run as run_module
from harness.evaluate.prepared import prepare
from harness.spec import EvalSpec

pytestmark = pytest.mark.bench
TARGET = 0.05
SPEC = EvalSpec("arith")
"""The default: 200 items, levels 0, 5 and 10 %, five noise seeds."""


def test_share_of_the_replay(benchmark, shipped, tmp_path, monkeypatch):
    seconds = {"repeat_clean": 0.0, "replay_records": 0.0}

    def timed(name):
        honest = getattr(run_module, name)

        def call(*given):
            begun = time.perf_counter()
            honest(*given)
            seconds[name] += time.perf_counter() - begun

        monkeypatch.setattr(run_module, name, call)

    for name in seconds:
        timed(name)
    prepared = prepare(shipped, SPEC, "cpu")
    begun = time.perf_counter()
    benchmark.pedantic(run_module.evaluate, (prepared, tmp_path / "run"), rounds=1)
    rest = time.perf_counter() - begun - sum(seconds.values())
    shares = {name: spent / rest for name, spent in seconds.items()}
    benchmark.extra_info |= shares
    print(f"replay {shares['replay_records']:.3f}, clean answers again {shares['repeat_clean']:.3f}, target {TARGET}")
