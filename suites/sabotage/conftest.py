"""Evaluations of the shipped checkpoint that the sabotage tests judge."""

from __future__ import annotations

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.runs.loaded import load_run
from harness.spec import DEFAULT_BATCH, EvalSpec, parse_noise

SMALL = EvalSpec("arith", items=12, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=16)
"""Cut before any answer is complete: evidence does not hang on right answers, and 96 tokens take six times as long."""


@pytest.fixture(scope="session")
def small(two_layers):
    """The lower half of the shipped checkpoint, loaded once, with a specification of 12 items at 0 and 5 %."""
    return prepare(two_layers, SMALL, "cpu")


@pytest.fixture
def evaluated_as(two_layers, tmp_path):
    """Evaluates 8 items at 0 and one level of a noise on the lower half of the checkpoint, and returns the stored run:
    ``evaluated_as(noise, level)``; ``batch`` is the number of sequences in one."""

    def run(noise, level, noise_seeds=1, batch=DEFAULT_BATCH):
        spec = EvalSpec(
            *("arith", None, 8),
            levels=(0.0, level),
            noise_seeds=noise_seeds,
            noise=parse_noise(noise),
            max_new_tokens=12,
            positive_control=False,
        )
        out = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        evaluate(prepare(two_layers, spec, "cpu"), out, batch)
        return load_run(out)

    return run


@pytest.fixture
def evaluated(small, tmp_path):
    """Evaluates ``small`` as it stands and returns the stored run."""

    def run():
        evaluate(small, tmp_path / "run")
        return load_run(tmp_path / "run")

    return run
