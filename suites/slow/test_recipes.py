"""Every recipe in both profiles, in one process: checked, composed, and through verl's own validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.training.book import PROFILES, load_recipe, recipe_names
from harness.training.check import check_recipe
from harness.training.machine import MachineState
from harness.training.sections import LORA, MEGATRON

pytestmark = pytest.mark.slow
FREE = MachineState(memory=64, shared=8, ports=True, rays=(), accelerators=8, cores=2)


def test_verl_accepts_every_recipe(tmp_path: Path) -> None:
    pytest.importorskip("verl", reason="verl is not installed: make setup-full")
    from omegaconf import OmegaConf
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    judged = 0
    for name in recipe_names():
        for profile in PROFILES:
            recipe = load_recipe(name, profile)
            checked = check_recipe(recipe, tmp_path / "run", FREE)
            megatron = recipe.model.engine == MEGATRON
            assert [each.check for each in checked.refused] == (["actor_not_watched"] if megatron else [])
            assert checked.recipe.effective_hash(checked.sizes.layers)
            if recipe.model.engine == MEGATRON:
                continue  # its dataclasses need Megatron
            config = OmegaConf.create(dict(checked.composed.config))
            # verl asks vLLM for the ranks of adapters, which imports all of it; adapter_rank_not_supported has them
            config.actor_rollout_ref.model.lora.merge = recipe.tuning.kind == LORA
            reference = need_reference_policy(config)
            assert reference == recipe.algorithm.kl_loss
            validate_config(config, use_reference_policy=reference, use_critic=need_critic(config))
            judged += 1
    assert judged >= 2 * len(recipe_names()) - 8
