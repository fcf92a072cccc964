"""One GRPO run that learns under operator noise and AQN, on real verl and vLLM, and an evaluation of its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.progress import Silent
from harness.training.apart import CONTROL_FACTOR, LARGEST_DLOGP, ON_POLICY_KL
from harness.training.book import load_recipe
from harness.training.render import checkpoint_in

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("only_ray")]

MARGIN = 0.10
"""The least rise of greedy accuracy, a fraction of the validation items, stated before the first run."""
STEPS, ITEMS = 4, 64
CHANGES = {
    "noise": {"draws": "same"},
    "aqn": {"sigma_start": 0.01, "sigma_end": 0.0005, "stages_per_epoch": STEPS},
    "data": {"train_items": 16 * STEPS, "validation_items": ITEMS, "train_batch": 16},
    "algorithm": {"rollouts": 8},
    "optimizer": {"learning_rate": 5e-5, "mini_batch": 16, "micro_batch": 16},
    "run": {"epochs": 1, "steps": STEPS, "validate_every": STEPS, "save_every": STEPS},
}


def test_grpo_learns_under_noise_and_its_checkpoint_is_evaluated(tmp_path: Path) -> None:
    """5 % in every pass, the same draws, AQN on the rollout: proven, on-policy, better, merged and evaluated."""
    pytest.importorskip("verl", reason="verl is not installed: make setup-full")
    from harness.library.training import Watching, start_training

    trained = start_training(load_recipe("E5b-hw", "tiny", CHANGES), tmp_path / "run", Silent(), Watching())
    assert trained.failed == ()
    evidence = trained.evidence
    (begun, before), (ended, after) = evidence.validations()
    assert (begun, ended) == (0, STEPS)
    assert after - before >= MARGIN
    for step in (0, STEPS):
        told = evidence.metrics[step]
        for name in ("validation", "noisy_validation"):
            assert abs(told[f"robust/{name}_k3_kl"]) <= ON_POLICY_KL
            assert told[f"robust/{name}_dlogp_max"] <= LARGEST_DLOGP
        assert told["robust/independent_validation_k3_kl"] >= CONTROL_FACTOR * ON_POLICY_KL
    assert any(sigma > 0 for _, sigma in evidence.values("robust/aqn_sigma"))

    evaluated = tmp_path / "evaluated"
    words = ["eval", str(checkpoint_in(tmp_path / "run", STEPS)), "--out", str(evaluated), "--task", "arith"]
    with pytest.raises(SystemExit) as left:
        main([*words, "--items", "32", "--noise-levels", "0,0.05", "--noise-seeds", "1"])
    assert left.value.code == 0
    assert json.loads((evaluated / "manifest.json").read_text())["training"]
