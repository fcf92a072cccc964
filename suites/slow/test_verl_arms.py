"""Short runs on real verl and vLLM that show what an arm did: minutes each; docs/training.md has their results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.progress import Silent
from harness.record import FORWARD, NOISE
from harness.training.apart import CONTROL_FACTOR, LARGEST_DLOGP, ON_POLICY_KL
from harness.training.book import load_recipe
from harness.training.evidence import STEP, Evidence, counted
from harness.training.injection import BACKWARD
from harness.training.verl_plugin.ledgers import changed, of_noise

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("only_ray")]

SHORT = {"epochs": 1, "steps": 3, "validate_every": 1, "save_every": 3}
PASSES = ["rollout", "old_log_prob", "training_forward", "backward", "validation"]
ONE = {"epochs": 1, "steps": 1, "validate_every": 1, "save_every": 1, "validate_first": False}
TEN_PERCENT = {"spec": "relative_gaussian(0.10) @ op:linear", "passes": PASSES, "draws": "same"}


def run_of(name: str, folder: Path, **changes: Any) -> Evidence:
    """What a short run of the recipe ``name`` leaves, which fails no check."""
    pytest.importorskip("verl", reason="verl is not installed: make setup-full")
    from harness.library.training import Watching, start_training

    recipe = load_recipe(name, "tiny", {"run": SHORT, "data": {"validation_items": 32}} | changes)
    trained = start_training(recipe, folder, Silent(), Watching())
    assert trained.failed == ()
    return trained.evidence


def check_validations(evidence: Evidence) -> None:
    """Rollout and actor agree on validation answers, clean and noisy; they do not where the actor draws apart."""
    metrics = [evidence.metrics[step] for step in range(SHORT["steps"] + 1)]
    for told in metrics:
        for name in ("validation", "noisy_validation"):
            assert told[f"robust/{name}_k3_kl"] <= ON_POLICY_KL
            assert told[f"robust/{name}_dlogp_max"] <= LARGEST_DLOGP
        assert told["robust/independent_validation_k3_kl"] >= CONTROL_FACTOR * ON_POLICY_KL


def test_noise_of_one_draw_leaves_no_trace_of_aqn_in_validation(tmp_path: Path) -> None:
    """E5b, 5 % in every pass, the same draws: AQN is on in the rollouts of steps 2 and 3, and in no validation."""
    aqn = {"stages_per_epoch": 3}
    evidence = run_of("E5b", tmp_path / "run", noise={"draws": "same"}, aqn=aqn)
    check_validations(evidence)
    assert [sigma for _, sigma in evidence.values("robust/aqn_sigma")] == pytest.approx([0, 0.05, 0.0005])


def test_ten_percent_is_on_policy_at_every_step(tmp_path: Path) -> None:
    evidence = run_of("E5", tmp_path / "run", noise=TEN_PERCENT, algorithm={"kl_loss": False})
    check_validations(evidence)
    for name, limit in (("rollout_corr/k3_kl", ON_POLICY_KL), ("robust/dlogp_max", LARGEST_DLOGP)):
        values = evidence.values(name)
        assert len(values) == SHORT["steps"] and all(abs(value) <= limit for _, value in values)


def test_an_adapter_on_quantized_weights_draws_as_its_rollout_does(tmp_path: Path) -> None:
    """E5a-LoRA: NVFP4 weights under an adapter, 10 % noise on their products, in actor and rollout."""
    changes = {"algorithm": {"filter_groups": False}, "data": {"validation_items": 32, "gen_batch": 0}}
    evidence = run_of("E5a-lora", tmp_path / "run", noise=TEN_PERCENT, **changes)
    check_validations(evidence)
    assert all(value > 0 for _, value in evidence.values("robust/quantized_gradient_least"))
    assert all(abs(value) <= ON_POLICY_KL for _, value in evidence.values("rollout_corr/k3_kl"))


def changed_by_noise(evidence: Evidence) -> dict[tuple[str, str], int]:
    """Elements that noise changed in the run's steps, by pass and direction, as every process counted them."""
    found: Counter[tuple[str, str]] = Counter()
    for line in evidence.lines(STEP):
        for _, name, counts in counted(line):
            for direction in (FORWARD, BACKWARD):
                found[name, direction] += changed(of_noise(counts, direction))
    return {key: number for key, number in found.items() if number}


def test_a_forward_only_arm_perturbs_forwards_alone(tmp_path: Path) -> None:
    """E8c: independent draws in rollout, log-probabilities and training forward; the gradient is exact."""
    evidence = run_of("E8c", tmp_path / "run", run=ONE, aqn=False)
    passes = ("rollout", "old_log_prob", "reference", "training_forward")
    assert set(changed_by_noise(evidence)) == {(name, FORWARD) for name in passes}
    assert evidence.metrics[1]["rollout_corr/k3_kl"] > CONTROL_FACTOR * ON_POLICY_KL


def test_a_backward_only_arm_perturbs_gradients_alone(tmp_path: Path) -> None:
    """E8d: nothing stands between rollout and actor, and the training pass is perturbed backward."""
    evidence = run_of("E8d", tmp_path / "run", run=ONE, aqn=False)
    assert set(changed_by_noise(evidence)) == {("training_forward", BACKWARD)}
    assert abs(evidence.metrics[1]["rollout_corr/k3_kl"]) <= ON_POLICY_KL
    assert evidence.metrics[1]["robust/dlogp_max"] <= LARGEST_DLOGP


def test_weights_and_activations_in_four_bits_pass_a_gradient(tmp_path: Path) -> None:
    """E13g: W4A4 with straight-through gradients, in actor and rollout."""
    evidence = run_of("E13g", tmp_path / "run", run=ONE, data={"validation_items": 16})
    told = evidence.metrics[1]
    assert told["robust/quantized_modules"] > 0 and told["robust/quantized_gradient_least"] > 0
    for report in evidence.lines(STEP)[0]["rollout"]:
        assert {count["op"].partition(":")[2] for count in report["counts"] if count["kind"] != NOISE} == {
            "weight",
            "input",
        }


def test_dynamic_sampling_says_what_it_kept(tmp_path: Path) -> None:
    """DAPO on the half-trained checkpoint: groups of one score are dropped, and the share kept is told."""
    evidence = run_of("E8a-dapo", tmp_path / "run", run=ONE, data={"validation_items": 16})
    assert 0 < evidence.metrics[1]["robust/kept_prompts"] <= 1


def test_two_ranks_and_two_replicas_draw_the_same(tmp_path: Path) -> None:
    """Every rank of the actor and every replica of the rollout has its ledger, and their draws agree."""
    noise = {"draws": "same"}
    evidence = run_of(
        "E5", tmp_path / "run", run=ONE, noise=noise, machine={"devices": 2}, algorithm={"kl_loss": False}
    )
    (step,) = evidence.lines(STEP)
    for side in ("actor", "rollout"):
        assert len({report["process"] for report in step[side]}) == 2
    assert abs(evidence.metrics[1]["rollout_corr/k3_kl"]) <= ON_POLICY_KL
    assert evidence.metrics[1]["robust/dlogp_max"] <= LARGEST_DLOGP
