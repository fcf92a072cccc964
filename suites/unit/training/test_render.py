"""Recipes in verl's real configuration: composed from the installed files, every key known, every value in force."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.exceptions import HarnessError
from harness.training.book import GPU, TINY, load_recipe
from harness.training.layers import ENVIRONMENT, SETTINGS, Setting
from harness.training.render import Place, render
from harness.training.sections import CPU

FOLDER = Path("a folder")
PLACE = Place(FOLDER, FOLDER / "train.parquet", FOLDER / "it's.parquet", FOLDER / "reward.py", Path("ray"))
needs_verl = pytest.mark.skipif(find_spec("verl") is None, reason="verl is not installed: make setup-full")


def rendered(name: str, profile: str = GPU) -> dict[str, Setting]:
    return render(load_recipe(name, profile), PLACE)


def test_dapo_becomes_its_keys() -> None:
    found = rendered("E3b-dapo")
    expected = {
        "actor_rollout_ref.actor.clip_ratio_low": 0.2,
        "actor_rollout_ref.actor.clip_ratio_high": 0.25,
        "actor_rollout_ref.actor.loss_agg_mode": "token-mean",
        "actor_rollout_ref.actor.use_kl_loss": False,
        "algorithm.filter_groups.enable": True,
        "algorithm.filter_groups.metric": "acc",
        "algorithm.filter_groups.max_inflight_gen_batches": 2,
        "reward.reward_manager.name": "dapo",
        "reward.reward_kwargs.max_resp_len": 1024,
        "reward.reward_kwargs.overlong_buffer_cfg.len": 256,
        "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor": 0.5,
        "trainer.total_training_steps": 29,
        "data.train_batch_size": 128,
    }
    assert {key: found[key] for key in expected} == expected


def test_without_dynamic_sampling_every_drawn_prompt_is_trained_on() -> None:
    assert rendered("E13j")["data.train_batch_size"] == 256
    assert rendered("E13h")["data.train_batch_size"] == 128


def test_adapter_regulariser_and_engine_become_their_keys() -> None:
    model = "actor_rollout_ref.model"
    adapter = rendered("E10c-64")
    assert (adapter[f"{model}.lora_rank"], adapter[f"{model}.target_modules"]) == (64, "all-linear")
    assert rendered("test-2-dropout")[f"{model}.override_config.attention_dropout"] == 0.1
    assert rendered("test-2-weight-decay")["actor_rollout_ref.actor.optim.weight_decay"] == 0.1
    moe = rendered("E7b-30b-gspo")
    assert (moe["model_engine"], moe["actor_rollout_ref.actor.policy_loss.loss_mode"]) == ("megatron", "gspo")


def test_every_seed_is_the_training_seed() -> None:
    found = render(load_recipe("E5", TINY).with_seed(11), PLACE)
    seeds = {key: value for key, value in found.items() if key.endswith("seed")}
    assert len(seeds) == 4 and set(seeds.values()) == {11}


def test_the_cpu_layer_is_in_every_tiny_run_and_in_no_other() -> None:
    for key, value in SETTINGS[CPU].items():
        assert rendered("E5", TINY)[key] == value
    assert "actor_rollout_ref.rollout.free_cache_engine" not in rendered("E5")
    assert ENVIRONMENT[CPU]["VERL_PLATFORM"] == "cpu"


def test_rollout_correction_keeps_the_names_of_verl(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "E5"\ntitle = "a"\n[algorithm.correction]\nrollout_is = "token"\nbypass_mode = false\n')
    found = render(load_recipe(str(file)), PLACE)
    assert found["algorithm.rollout_correction.rollout_is"] == "token"


@needs_verl
@pytest.mark.parametrize(("name", "profile"), [("E3b-dapo", TINY), ("E12-2ep", GPU), ("E7b-30b-gspo", GPU)])
def test_verl_knows_every_key(name: str, profile: str) -> None:
    from harness.training.compose import compose

    settings = rendered(name, profile)
    composed = compose(settings)
    assert len(composed.overrides) >= len(settings) - 1
    assert composed.value("data.val_files") == str(PLACE.validation_file)
    added = {each.split("=")[0] for each in composed.overrides if each.startswith("+")}
    if profile == TINY:
        assert "+actor_rollout_ref.rollout.enable_sleep_mode" in added
        assert "+reward.reward_kwargs.max_resp_len" in added
    else:
        assert added <= {key for key in added if "reward_kwargs" in key or "_temp_dir" in key}


@needs_verl
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("actor_rollout_ref.actor.clip_ratio_hihg", "did you mean 'clip_ratio_high'"),
        ("actor_rollout_ref.rollout.enable_sleep_mod", "did you mean 'enable_sleep_mode'"),
        ("trainer.noise_injection.sigma_start", "does not know it"),
        ("actor_rollout_ref.model.override_config.dropout", "did you mean 'attention_dropout'"),
        ("layer_sigma_config", "does not know it"),
    ],
)
def test_a_key_that_nobody_reads_is_refused(key: str, words: str) -> None:
    from harness.training.compose import compose

    with pytest.raises(HarnessError, match=words):
        compose({key: 1})


@needs_verl
def test_text_survives_the_grammar_of_hydra() -> None:
    from harness.training.compose import compose

    for text in ("it's", "a b", "a=b", "[1,2]", "null", "${x}", "a\\", "#x", "1e-3"):
        if text == "${x}":
            continue  # an interpolation, which verl's files use as well
        assert compose({"trainer.project_name": text}).value("trainer.project_name") == text


@needs_verl
def test_composing_imports_neither_torch_nor_verl() -> None:
    code = (
        "import sys; from harness.training.compose import compose; compose({'data.seed': 3});"
        "print([name for name in ('torch', 'verl', 'ray', 'vllm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
