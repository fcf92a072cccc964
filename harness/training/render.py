"""A recipe as verl's own settings: every field that acts becomes keys of verl's configuration, here and only here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.training.book import resolved
from harness.training.layers import ACTOR, MODEL, ROLLOUT, SETTINGS, Setting
from harness.training.recipe import Recipe, epochs_drawn
from harness.training.sections import CPU, DAPO, LORA, MEGATRON

REF = "actor_rollout_ref.ref"
PROJECT = "robustness"
ENGINE = "model_engine"
"""The group of verl's configuration that chooses between FSDP and Megatron."""


CHECKPOINTS = "checkpoints"
"""The folder of verl's checkpoints in that of a run."""


def checkpoint_in(folder: Path, step: int) -> Path:
    """Return where the run in ``folder`` keeps the checkpoint of ``step``; verl names it."""
    return folder / CHECKPOINTS / f"global_step_{step}"


@dataclass(frozen=True)
class Place:
    """Where a run lies: its folder, the data files in verl's layout, the file of the reward, Ray's folder.

    ``ray_folder`` must be short: Ray puts sockets there, whose paths end at 107 characters.
    """

    folder: Path
    train_file: Path
    validation_file: Path
    reward_file: Path
    ray_folder: Path | None = None

    @property
    def checkpoints(self) -> Path:
        """Return the folder of verl's checkpoints."""
        return self.folder / CHECKPOINTS


def render(recipe: Recipe, place: Place, plugin: Mapping[str, Setting] | None = None) -> dict[str, Setting]:
    """Return verl's key -> value for ``recipe`` at ``place``; ``plugin`` are the plugin's keys, laid over the rest.

    Which of them verl's own files lack, and so need a ``+``, is for :mod:`harness.training.compose` to find.
    """
    found: dict[str, Setting] = dict(SETTINGS[recipe.machine.platform])
    for part in (_model, _data, _algorithm, _actor, _rollout, _reward, _trainer):
        found |= part(recipe, place)
    return found | dict(plugin or {})


def _model(recipe: Recipe, place: Place) -> dict[str, Setting]:
    model, tuning = recipe.model, recipe.tuning
    there = resolved(model.path)
    found: dict[str, Setting] = {
        ENGINE: "megatron" if model.engine == MEGATRON else "dp",
        f"{MODEL}.path": model.path if there is None else str(there.resolve()),
        f"{MODEL}.enable_gradient_checkpointing": model.gradient_checkpointing,
    }
    if recipe.optimizer.dropout:
        found[f"{MODEL}.override_config.attention_dropout"] = recipe.optimizer.dropout
    if tuning.kind == LORA:
        found[f"{MODEL}.lora_rank"] = tuning.rank
        found[f"{MODEL}.lora_alpha"] = tuning.alpha
        one = tuning.targets == ("all-linear",)
        found[f"{MODEL}.target_modules"] = tuning.targets[0] if one else list(tuning.targets)
    return found


def _data(recipe: Recipe, place: Place) -> dict[str, Setting]:
    return {
        "data.train_files": str(place.train_file),
        "data.val_files": str(place.validation_file),
        "data.train_batch_size": recipe.trained_prompts,
        "data.max_prompt_length": recipe.data.max_prompt,
        "data.max_response_length": recipe.data.max_response,
        "data.shuffle": True,
        "data.seed": recipe.run.seed,
        "data.truncation": "error",
    }


def _algorithm(recipe: Recipe, place: Place) -> dict[str, Setting]:
    algorithm = recipe.algorithm
    found: dict[str, Setting] = {"algorithm.adv_estimator": "grpo", "algorithm.use_kl_in_reward": False}
    found["algorithm.filter_groups.enable"] = algorithm.filter_groups
    if algorithm.filter_groups:
        found["algorithm.filter_groups.metric"] = algorithm.filter_metric
        inflight = -(-recipe.drawn_prompts // recipe.trained_prompts)
        found["algorithm.filter_groups.max_inflight_gen_batches"] = inflight
    for key, value in algorithm.correction.items():
        found[f"algorithm.rollout_correction.{key}"] = value
    return found


def _actor(recipe: Recipe, place: Place) -> dict[str, Setting]:
    algorithm, optimizer, seed = recipe.algorithm, recipe.optimizer, recipe.run.seed
    found: dict[str, Setting] = {
        f"{ACTOR}.ppo_mini_batch_size": optimizer.mini_batch,
        f"{ACTOR}.ppo_micro_batch_size_per_gpu": optimizer.micro_batch,
        f"{ACTOR}.optim.lr": optimizer.learning_rate,
        f"{ACTOR}.optim.lr_warmup_steps": optimizer.warmup_steps,
        f"{ACTOR}.optim.weight_decay": optimizer.weight_decay,
        f"{ACTOR}.optim.clip_grad": optimizer.grad_clip,
        f"{ACTOR}.clip_ratio": algorithm.clip_low,
        f"{ACTOR}.clip_ratio_low": algorithm.clip_low,
        f"{ACTOR}.clip_ratio_high": algorithm.clip_high,
        f"{ACTOR}.clip_ratio_c": algorithm.clip_c,
        f"{ACTOR}.loss_agg_mode": algorithm.loss_aggregation,
        f"{ACTOR}.policy_loss.loss_mode": algorithm.policy_loss,
        f"{ACTOR}.use_kl_loss": algorithm.kl_loss,
        f"{ACTOR}.entropy_coeff": 0,
        f"{ACTOR}.calculate_entropy": True,
        f"{ACTOR}.data_loader_seed": seed,
    }
    if algorithm.kl_loss:
        found[f"{ACTOR}.kl_loss_coef"] = algorithm.kl_coef
        found[f"{ACTOR}.kl_loss_type"] = algorithm.kl_type
        found[f"{REF}.log_prob_micro_batch_size_per_gpu"] = optimizer.micro_batch
        if recipe.machine.platform == CPU:
            found[f"{REF}.fsdp_config.dtype"] = "float32"
            for name in ("param", "reduce", "buffer"):
                found[f"{REF}.fsdp_config.mixed_precision.{name}_dtype"] = "fp32"
            found[f"{REF}.fsdp_config.use_torch_compile"] = False
    if recipe.model.engine == MEGATRON:
        found[f"{ACTOR}.megatron.expert_model_parallel_size"] = recipe.model.expert_parallel
        found[f"{ACTOR}.megatron.tensor_model_parallel_size"] = recipe.model.tensor_parallel
        found[f"{ACTOR}.megatron.seed"] = seed
    else:
        found[f"{ACTOR}.strategy"] = recipe.model.engine
        found[f"{ACTOR}.fsdp_config.seed"] = seed
    return found


def _rollout(recipe: Recipe, place: Place) -> dict[str, Setting]:
    algorithm, model = recipe.algorithm, recipe.model
    return {
        f"{ROLLOUT}.name": "vllm",
        f"{ROLLOUT}.n": algorithm.rollouts,
        f"{ROLLOUT}.temperature": algorithm.temperature,
        f"{ROLLOUT}.top_p": algorithm.top_p,
        f"{ROLLOUT}.seed": recipe.run.seed,
        f"{ROLLOUT}.dtype": model.dtype,
        f"{ROLLOUT}.enforce_eager": model.enforce_eager,
        f"{ROLLOUT}.tensor_model_parallel_size": model.tensor_parallel,
        f"{ROLLOUT}.max_model_len": recipe.data.max_prompt + recipe.data.max_response,
        f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu": recipe.optimizer.micro_batch,
        f"{ROLLOUT}.calculate_log_probs": True,
        f"{ROLLOUT}.val_kwargs.temperature": algorithm.validation_temperature,
        f"{ROLLOUT}.val_kwargs.top_p": algorithm.validation_top_p,
        f"{ROLLOUT}.val_kwargs.do_sample": algorithm.validation_temperature > 0,
    }


def _reward(recipe: Recipe, place: Place) -> dict[str, Setting]:
    algorithm = recipe.algorithm
    found: dict[str, Setting] = {
        "reward.custom_reward_function.path": str(place.reward_file),
        "reward.custom_reward_function.name": "compute_score",
        "reward.reward_manager.name": "dapo" if algorithm.name == DAPO else "naive",
    }
    if algorithm.overlong_buffer:
        kwargs = "reward.reward_kwargs"
        found[f"{kwargs}.max_resp_len"] = recipe.data.max_response
        found[f"{kwargs}.overlong_buffer_cfg.enable"] = True
        found[f"{kwargs}.overlong_buffer_cfg.len"] = algorithm.overlong_buffer
        found[f"{kwargs}.overlong_buffer_cfg.penalty_factor"] = algorithm.overlong_penalty
        found[f"{kwargs}.overlong_buffer_cfg.log"] = True
    return found


def _trainer(recipe: Recipe, place: Place) -> dict[str, Setting]:
    run, machine = recipe.run, recipe.machine
    found: dict[str, Setting] = {
        "trainer.total_epochs": epochs_drawn(recipe),
        "trainer.total_training_steps": recipe.total_steps,
        "trainer.test_freq": run.validate_every,
        "trainer.save_freq": run.save_every,
        "trainer.val_before_train": run.validate_first,
        "trainer.nnodes": machine.nodes,
        "trainer.n_gpus_per_node": machine.devices,
        "trainer.default_local_dir": str(place.checkpoints),
        "trainer.project_name": PROJECT,
        "trainer.experiment_name": f"{recipe.name}-{recipe.profile}-seed{run.seed}",
        "trainer.logger": ["console"],
        "trainer.resume_mode": "auto",
    }
    if machine.platform == CPU:
        found["ray_kwargs.ray_init.num_gpus"] = machine.devices
    if machine.ray_address:
        found["ray_kwargs.ray_init.address"] = machine.ray_address
    elif place.ray_folder is not None:
        found["ray_kwargs.ray_init._temp_dir"] = str(place.ray_folder)
    return found
