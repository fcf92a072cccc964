"""Evaluations of the shipped checkpoint that the sabotage tests judge."""

from __future__ import annotations

import pytest

from harness.evaluate.run import evaluate, prepare
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

SMALL = EvalSpec("arith", items=16, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=96)


@pytest.fixture(scope="session")
def small(shipped):
    """The shipped checkpoint, loaded once, with a specification of 16 items at 0 and 5 %."""
    return prepare(shipped, SMALL, "cpu")


@pytest.fixture
def evaluated(small, tmp_path):
    """Evaluates ``small`` as it stands and returns the stored run."""

    def run():
        evaluate(small, tmp_path / "run")
        return load_run(tmp_path / "run")

    return run
