"""The recipes against the published hyper-parameters, transcribed once more from the sources, family by family."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from harness.training.book import GPU, load_recipe, recipe_names
from harness.training.recipe import Recipe

HW = "E2 E3 E3b-hw E4 E4b-hw E4c E4d E5 E5a-hw E5b-hw E5c-allops E5c-lower E5d E6 E9a E9a-high E9b"
THEORY = "E8a-hw E8b E8c E8d E8e E8f E10a E10c-16 E10c-32 E10c-64 E10c-128 E11"
TESTS = "gpu-baseline test-2 test-3a test-3b test-4a test-2-dropout test-2-weight-decay"
SEVEN = "E7a-7b E7b-7b E7c-7b"
MOE = "E7a-30b E7b-30b E7c-30b E7b-30b-gspo"
SUITE = "suite-baseline mxfp4-only mxfp4-aqn 1A 1B 1C 1D 1E nvfp4-v1 E2a E2b"
FULL = "E8a-dapo E3a E3b-dapo E3b-dapo-rerun E4a E4b-dapo E4b-dapo-rerun E3a-2ep E3b-2ep E8a-2ep"
ADAPTER = "E7a-lora E7b-lora E5a-lora E5b-lora E6a E6b E12 E6a-2ep E6b-2ep E7a-2ep E12-2ep E6b-qerl E12-qerl"
W4A4 = "E13a-mx E13a-nv E13b E13c E13d E13g E13h E13i E13i-v2 E13j E13k E13l E13m E13n E14a"
GRPO_15 = f"{HW} {THEORY} {TESTS} {SUITE}"
GRPO_ALL = f"{GRPO_15} {SEVEN}"
DAPO_ALL = f"{FULL} {ADAPTER} {W4A4}"
LORA = f"{ADAPTER} {W4A4}"
RANKS = "E10c-16 E10c-32 E10c-64 E10c-128"
BASE, SEVEN_B, MOE_B = "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-30B-A3B-Base"
NO_HEAD, NO_LORA = ("lm_head", "embed_tokens"), ("lm_head", "embed_tokens", "lora_A", "lora_B")
ALL_PASSES = ("rollout", "old_log_prob", "reference", "training_forward", "backward", "validation")


def without(names: str, *left_out: str) -> str:
    return " ".join(name for name in names.split() if name not in " ".join(left_out).split())


HIGH = "E5a-hw E5b-hw E5d mxfp4-aqn test-3a E3b-dapo E12 E13j"
WITH_AQN = "E5a-hw E5b-hw E5c-lower E5d E9a E9a-high E9b"
PUBLISHED: tuple[tuple[str, str, Any], ...] = (
    (f"{GRPO_15} {DAPO_ALL}", "model.path", BASE),
    (SEVEN, "model.path", SEVEN_B),
    (MOE, "model.path", MOE_B),
    (SEVEN, "model.tensor_parallel", 2),
    (MOE, "model.engine", "megatron"),
    (MOE, "model.expert_parallel", 8),
    (f"{HW} {THEORY}", "model.enforce_eager", True),
    (f"{GRPO_ALL} {MOE} {DAPO_ALL}", "data.train_items", 7473),
    (f"{GRPO_ALL} {MOE} {DAPO_ALL}", "data.validation_items", 1319),
    (f"{GRPO_15} {DAPO_ALL}", "data.max_prompt", 1024),
    (f"{GRPO_15} {DAPO_ALL}", "data.max_response", 1024),
    (SEVEN, "data.max_response", 512),
    (GRPO_ALL, "algorithm.name", "grpo"),
    (f"{MOE} {DAPO_ALL}", "algorithm.name", "dapo"),
    (f"{GRPO_15} {MOE}", "data.train_batch", 128),
    (SEVEN, "data.train_batch", 64),
    (without(DAPO_ALL, "E6b-qerl E12-qerl E13b"), "data.train_batch", 128),
    (without(DAPO_ALL, "E6b-qerl E12-qerl E13b"), "data.gen_batch", 256),
    ("E6b-qerl E12-qerl", "data.train_batch", 32),
    ("E6b-qerl E12-qerl", "data.gen_batch", 32),
    ("E13b", "data.train_batch", 16),
    ("E13b", "data.gen_batch", 32),
    (f"{GRPO_15} {without(DAPO_ALL, 'E13b')}", "optimizer.mini_batch", 32),
    (SEVEN, "optimizer.mini_batch", 16),
    (GRPO_15, "optimizer.micro_batch", 4),
    (f"{without(GRPO_15, RANKS)} {FULL}", "optimizer.learning_rate", 5e-7),
    (SEVEN, "optimizer.learning_rate", 1e-7),
    (MOE, "optimizer.learning_rate", 1e-6),
    (LORA, "optimizer.learning_rate", 1e-5),
    (GRPO_ALL, "optimizer.warmup_steps", 0),
    (f"{MOE} {DAPO_ALL}", "optimizer.warmup_steps", 10),
    (GRPO_ALL, "algorithm.rollouts", 5),
    (DAPO_ALL, "algorithm.rollouts", 8),
    (MOE, "algorithm.rollouts", 16),
    (without(GRPO_ALL, "E10a"), "algorithm.kl_loss", True),
    (without(GRPO_ALL, "E10a"), "algorithm.kl_coef", 0.001),
    (without(GRPO_ALL, "E10a"), "algorithm.kl_type", "low_var_kl"),
    (f"E10a {MOE} {DAPO_ALL}", "algorithm.kl_loss", False),
    (DAPO_ALL, "algorithm.clip_low", 0.2),
    (DAPO_ALL, "algorithm.clip_high", 0.25),
    (MOE, "algorithm.clip_low", 0.2),
    (MOE, "algorithm.clip_high", 0.28),
    (MOE, "algorithm.clip_c", 10.0),
    (f"{MOE} {DAPO_ALL}", "algorithm.loss_aggregation", "token-mean"),
    (DAPO_ALL, "algorithm.overlong_buffer", 256),
    (DAPO_ALL, "algorithm.overlong_penalty", 0.5),
    (DAPO_ALL, "algorithm.temperature", 1.0),
    (DAPO_ALL, "algorithm.filter_metric", "acc"),
    (DAPO_ALL, "algorithm.max_gen_batches", 5),
    (f"{FULL} {ADAPTER} E13g E13h E13i E13i-v2", "algorithm.filter_groups", True),
    ("E13j E13k E13l E13m E13n E14a", "algorithm.filter_groups", False),
    ("E13g E13h E13i", "updates_per_step", 4),
    ("E13j E13k E13l E13m E13n E14a", "updates_per_step", 8),
    (MOE, "algorithm.validation_temperature", 1.0),
    (MOE, "algorithm.validation_top_p", 0.7),
    (f"{GRPO_ALL} {DAPO_ALL}", "algorithm.validation_temperature", 0.0),
    (without(f"{HW} {THEORY} {TESTS}", "E2 E11"), "total_steps", 116),
    ("E2", "total_steps", 58),
    ("E11", "run.epochs", 10),
    (SEVEN, "total_steps", 232),
    (MOE, "total_steps", 58),
    (without(SUITE, "E2a E2b"), "total_steps", 174),
    ("E2a E2b", "total_steps", 116),
    (
        without(f"{DAPO_ALL}", "E3a-2ep E3b-2ep E8a-2ep E6a-2ep E6b-2ep E7a-2ep E12-2ep E6b-qerl E12-qerl E13b"),
        "total_steps",
        29,
    ),
    ("E3a-2ep E3b-2ep E8a-2ep E6a-2ep E6b-2ep E7a-2ep E12-2ep", "total_steps", 58),
    ("E6b-qerl E12-qerl", "total_steps", 233),
    (f"{GRPO_ALL} {DAPO_ALL}", "run.validate_every", 20),
    (f"{SUITE} {W4A4}", "run.save_every", 50),
    (f"{LORA}", "tuning.kind", "lora"),
    (f"{LORA}", "tuning.rank", 32),
    (f"{LORA} {RANKS}", "tuning.alpha", 16),
    (f"{LORA}", "tuning.targets", ("all-linear",)),
    (f"{without(GRPO_ALL, RANKS)} {MOE} {FULL}", "tuning.kind", "full"),
    ("E10c-16", "tuning.rank", 16),
    ("E10c-32", "tuning.rank", 32),
    ("E10c-64", "tuning.rank", 64),
    ("E10c-128", "tuning.rank", 128),
    ("E2", "noise.spec", "relative_gaussian(1e-05) @ op:rms_norm"),
    ("E3 E4", "noise.spec", "relative_gaussian(1e-05) @ op:linear"),
    ("E4b-hw", "noise.spec", "relative_gaussian(0.0001) @ op:linear"),
    ("E4c", "noise.spec", "relative_gaussian(0.001) @ op:linear"),
    (
        "E5 E5a-hw E5b-hw E5c-lower E9a E9a-high E9b E8b E8c E8d E7b-7b E7c-7b E7b-30b",
        "noise.spec",
        "relative_gaussian(0.05) @ op:linear",
    ),
    ("E8e", "noise.spec", "relative_gaussian(0.025) @ op:linear"),
    ("E5c-allops E5d", "noise.spec", "relative_gaussian(0.05) @ op:linear,silu"),
    ("E5 E5a-hw E5b-hw E5d E7b-7b E8b", "noise.passes", ALL_PASSES),
    ("E8c E8f", "noise.passes", without(" ".join(ALL_PASSES), "backward").split()),
    ("E8d", "noise.passes", ("backward",)),
    (f"{TESTS} E8a-hw E7a-7b E7a-30b {SUITE} {DAPO_ALL}", "noise", None),
    (
        f"{HIGH} E9a-high E8c E2b 1A 1E nvfp4-v1 E4b-dapo E12-2ep E12-qerl",
        "aqn.sigma_start",
        0.05,
    ),
    (f"{HIGH} E9a-high E8c E2b", "aqn.sigma_end", 0.0005),
    ("E5c-lower E9a E9b E3b-dapo-rerun E4b-dapo-rerun E5b-lora E6b E6b-2ep E6b-qerl E13k", "aqn.sigma_start", 0.01),
    ("E5c-lower E9a E9b", "aqn.sigma_end", 1e-5),
    ("E3b-dapo-rerun E4b-dapo-rerun E5b-lora E6b E6b-2ep E6b-qerl E13k", "aqn.sigma_end", 0.0001),
    ("test-3b", "aqn.sigma_start", 0.1),
    ("test-3b", "aqn.sigma_end", 0.001),
    ("test-4a", "aqn.sigma_start", 0.025),
    ("1C", "aqn.sigma_start", 0.005),
    ("1D", "aqn.sigma_start", 0.001),
    ("E5a-hw test-3a E3b-dapo E6b E13j mxfp4-aqn", "aqn.num_stages", 10),
    ("E5a-hw test-3a E3b-dapo E6b E13j mxfp4-aqn E12-qerl", "aqn.epoch_aware", False),
    ("E5b-hw E5c-lower E5d E9a E9b E8b E8c", "aqn.epoch_aware", True),
    ("E5b-hw E5c-lower E5d E9a E9b E8b E8c", "aqn.stages_per_epoch", 5),
    ("E12 E12-2ep", "aqn.stages_per_epoch", 10),
    ("1A 1B 1C 1D E13i E13i-v2", "aqn.layer_types", ("linear",)),
    ("1E E2b E5b-hw E13j E3b-dapo", "aqn.layer_types", ("rmsnorm",)),
    ("E9a E9a-high", "aqn.multipliers", "targeted:14-17"),
    ("E9b", "aqn.multipliers", "variable:14-17/10-13,18-21"),
    ("E14a", "aqn.multipliers", "zones:0-5,23-27/6-22"),
    (
        f"{without(HW, WITH_AQN)} test-2 suite-baseline E2a E8a-dapo E3a E4a E7a-lora E5a-lora E6a E13g E13h",
        "aqn",
        None,
    ),
    ("mxfp4-only 1A 1E E2a E3a E3b-dapo E6a E6b E12 E13h E13j", "quantization.weights", "mxfp4"),
    ("nvfp4-v1 E4a E4b-dapo E5a-lora E5b-lora E13g", "quantization.weights", "nvfp4"),
    ("mxfp4-only 1A nvfp4-v1 E2a E3a E4a E5a-lora E6a", "quantization.bits", "W4A16"),
    (W4A4, "quantization.bits", "W4A4"),
    ("mxfp4-only mxfp4-aqn 1A 1B 1C 1D 1E nvfp4-v1", "quantization.head", True),
    ("E2a E2b E3a E3b-dapo E4a E4b-dapo", "quantization.exclude", NO_HEAD),
    ("E5a-lora E5b-lora E6a E6b E12 E6b-qerl", "quantization.exclude", NO_LORA),
    (W4A4, "quantization.exclude", (*NO_LORA, "layers.0", "layers.27", "base_layer")),
    ("E13g E13h E13i E13j E13k E13l E13m E13n E14a", "quantization.straight_through", True),
    ("E13a-mx E13a-nv E13b E13c E13d", "quantization.straight_through", False),
    ("E13c", "quantization.sides", ("actor",)),
    (f"{HW} {THEORY} {TESTS} {SEVEN} {MOE} suite-baseline E8a-dapo E7a-lora E7b-lora", "quantization", None),
)


@functools.cache
def published(name: str) -> Recipe:
    return load_recipe(name, GPU)


def look_up(name: str, path: str) -> Any:
    found: Any = published(name)
    for part in path.split("."):
        found = getattr(found, part)
    return list(found) if isinstance(found, tuple) else found


@pytest.mark.parametrize(("names", "path", "value"), PUBLISHED, ids=[f"{path}={value}" for _, path, value in PUBLISHED])
def test_hyper_parameter_is_the_published_one(names: str, path: str, value: Any) -> None:
    expected = list(value) if isinstance(value, tuple) else value
    differing = {name: got for name in names.split() if (got := look_up(name, path)) != expected}
    assert not differing


def test_every_recipe_stands_in_the_table() -> None:
    families = (HW, THEORY, TESTS, SEVEN, MOE, SUITE, FULL, ADAPTER, W4A4)
    assert sorted(" ".join(families).split()) == sorted(recipe_names())
