"""FAIL and INCONCLUSIVE on copies of the shipped checkpoint with measured damage.

PASS is that of the gate suite (``suites/contract/test_plugin.py``), INVALID that of ``test_injector.py``.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.gates import FAIL, INCONCLUSIVE, GatePolicy, gate
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=40, levels=(0.0, 0.05), noise_seeds=1)
POLICY = GatePolicy(margin=0.10)


def damaged(source, target, strength):
    """A copy of ``source`` whose weights carry relative Gaussian damage of ``strength`` (a fraction)."""
    shutil.copytree(source, target)
    generator = torch.Generator().manual_seed(1)
    weights = load_file(target / "model.safetensors")
    hurt = {
        name: weight * (1 + strength * torch.randn(weight.shape, generator=generator))
        for name, weight in weights.items()
    }
    save_file(hurt, target / "model.safetensors", metadata={"format": "pt"})
    return target


def run_of(checkpoint, out):
    evaluate(prepare(checkpoint, SPEC, "cpu"), out)
    return load_run(out).arm


@pytest.fixture(scope="module")
def baseline(shipped, tmp_path_factory):
    return run_of(shipped, tmp_path_factory.mktemp("baseline") / "run")


def accuracy(arm, level):
    cells = arm.outcomes[level]
    return sum(outcome.right for row in cells.values() for outcome in row.values()) / len(cells)


def test_measured_damage_of_five_points_and_more_fails(baseline, shipped, tmp_path):
    arm = run_of(damaged(shipped, tmp_path / "copy", 0.15), tmp_path / "run")
    assert accuracy(baseline, 0.0) - accuracy(arm, 0.0) >= 0.05
    result = gate(arm, baseline, POLICY)
    assert (result.verdict, result.exit_code) == (FAIL, 1)
    assert result.levels[0].verdict == FAIL


def test_damage_of_about_the_margin_is_inconclusive(baseline, shipped, tmp_path):
    arm = run_of(damaged(shipped, tmp_path / "copy", 0.06), tmp_path / "run")
    result = gate(arm, baseline, POLICY)
    assert abs(accuracy(baseline, 0.0) - accuracy(arm, 0.0)) <= POLICY.margin
    assert (result.verdict, result.exit_code) == (INCONCLUSIVE, 3)
    needed = [level.items_needed for level in result.levels if level.verdict == INCONCLUSIVE and level.items_needed]
    assert needed
    assert min(needed) > SPEC.items
