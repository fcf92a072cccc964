"""The full experiments without a GPU: each passes its preflight on a machine that could run it, feeds what it repeats,
and is collected by ``-m gpu_long``, where it is skipped with the reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.claims.feeds import claims_fed
from harness.claims.load import load_registry
from harness.exceptions import HarnessError
from harness.training.book import GPU, load_recipe, recipe_names
from harness.training.check import place_of
from harness.training.experiments import REPLICATIONS, Places, replications
from harness.training.machine import MachineState
from harness.training.preflight import OPEN, REFUSED, Flight, preflight, refuse
from harness.training.sections import MEGATRON
from harness.training.sizes import sizes_of

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]
NODE = MachineState(memory=1000, shared=64, ports=True, rays=(), accelerators=8, cores=96)
ABSENT = {"model_missing", "data_without_columns"}
"""What a machine without models and data cannot tell."""


@pytest.mark.parametrize("name", recipe_names())
def test_the_preflight_of_a_full_experiment(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, GPU)
    findings = preflight(Flight(recipe, sizes_of(recipe), place_of(recipe, tmp_path / "run"), NODE))
    on_megatron = recipe.model.engine == MEGATRON
    assert {each.check for each in findings if each.state == REFUSED} == (
        {"actor_not_watched"} if on_megatron else set()
    )
    assert {each.check for each in findings if each.state == OPEN} <= ABSENT | {"memory_too_small"}
    with pytest.raises(HarnessError, match="actor_not_watched" if on_megatron else "model_missing"):
        refuse(recipe, findings, starting=not on_megatron)


def test_an_experiment_has_three_training_seeds_unless_its_user_says(tmp_path: Path) -> None:
    assert [each.run.seed for each in replications("E5b")] == list(range(REPLICATIONS)) == [0, 1, 2]
    one, other = replications("E5b", 2, Places(tmp_path / "models", tmp_path / "data"))
    assert (one.recipe_hash != other.recipe_hash) and one.effective_hash(28) == other.effective_hash(28)
    assert one.model.path == str(tmp_path / "models" / "Qwen" / "Qwen2.5-1.5B-Instruct")
    assert one.data.train_files == str(tmp_path / "data" / "gsm8k" / "train.parquet")


def test_what_an_experiment_repeats_feeds_its_claims() -> None:
    registry = load_registry()
    fed = {
        name: claims_fed(registry, (recipe := load_recipe(name, GPU)).published, recipe.label)
        for name in recipe_names()
    }
    trained = {each for name in recipe_names() for each in load_recipe(name, GPU).published}
    resting = {
        claim.id
        for claim in registry.claims
        for comparison in claim.comparisons
        if comparison.experiments and set(comparison.experiments) <= trained
    }
    assert resting and resting <= {claim for claims in fed.values() for claim in claims}


def test_without_an_accelerator_they_are_collected_and_skipped_with_the_reason() -> None:
    if torch.accelerator.is_available():
        pytest.skip("an accelerator is here: -m gpu_long would run for days")
    options = ("-m", "gpu_long", "-q", "-rs", "-p", "no:cacheprovider", "--training-seeds", "5")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "suites/published"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert f"{len(recipe_names())} skipped" in done.stdout, done.stdout[-500:] + done.stderr[-500:]
    assert "torch.accelerator finds none here" in done.stdout
