"""The parts of a recipe that every training run has, as frozen dataclasses (no torch).

Names follow the papers; which of verl's keys each becomes stands in :mod:`harness.training.render`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from harness.exceptions import HarnessError
from harness.text import nearest

Value = str | int | float | bool
GRPO, DAPO = "grpo", "dapo"
FULL, LORA = "full", "lora"
FSDP, MEGATRON = "fsdp2", "megatron"
CPU, CUDA = "cpu", "cuda"
CHOICES: Mapping[str, tuple[str, ...]] = {
    "algorithm.name": (GRPO, DAPO),
    "algorithm.loss_aggregation": ("token-mean", "seq-mean-token-sum", "seq-mean-token-mean"),
    "algorithm.kl_type": ("kl", "abs", "mse", "low_var_kl", "full"),
    "algorithm.policy_loss": ("vanilla", "gspo"),
    "tuning.kind": (FULL, LORA),
    "model.dtype": ("bfloat16", "float32"),
    "model.engine": (FSDP, MEGATRON),
    "machine.platform": (CPU, CUDA),
}
CORRECTION_KEYS = (
    "rollout_is",
    "rollout_is_threshold",
    "rollout_rs",
    "rollout_rs_threshold",
    "bypass_mode",
    "loss_type",
    "rollout_is_batch_normalize",
)
"""verl's own names under ``algorithm.rollout_correction``."""

CORRECTION_OFF: Mapping[str, Value] = MappingProxyType(
    {"bypass_mode": False, "rollout_is_batch_normalize": False, "loss_type": "ppo_clip"}
)
"""Values of verl that change nothing when they are written down."""


@dataclass(frozen=True)
class ModelPart:
    """What is trained. ``architecture`` is a row of the table of sizes, ``engine`` what shards the actor."""

    path: str
    architecture: str
    dtype: str = "bfloat16"
    engine: str = FSDP
    tensor_parallel: int = 1
    expert_parallel: int = 1
    gradient_checkpointing: bool = True
    enforce_eager: bool = True

    def __post_init__(self) -> None:
        _known("model.dtype", self.dtype)
        _known("model.engine", self.engine)
        _whole("model.tensor_parallel", self.tensor_parallel, 1)
        _whole("model.expert_parallel", self.expert_parallel, 1)


@dataclass(frozen=True)
class DataPart:
    """What is trained on. ``train_batch`` prompts are kept of the ``gen_batch`` (0: as many) drawn for a step."""

    task: str
    train_items: int
    validation_items: int
    max_prompt: int
    max_response: int
    train_batch: int
    gen_batch: int = 0
    train_files: str = ""
    validation_files: str = ""

    def __post_init__(self) -> None:
        for name in ("train_items", "validation_items", "max_prompt", "max_response", "train_batch"):
            _whole(f"data.{name}", getattr(self, name), 1)
        _whole("data.gen_batch", self.gen_batch, 0)
        if self.gen_batch and self.gen_batch < self.train_batch:
            raise HarnessError(
                f"data.gen_batch {self.gen_batch} below data.train_batch {self.train_batch}",
                "a step cannot keep more prompts than it draws",
                "give 0 or more than the training batch",
            )
        if self.train_batch > self.train_items:
            raise HarnessError(
                f"data.train_batch {self.train_batch} above data.train_items {self.train_items}",
                "an epoch would have no step",
                "give a smaller batch",
            )


@dataclass(frozen=True)
class AlgorithmPart:
    """How a policy is improved. ``filter_groups`` is dynamic sampling: groups of one score are dropped.

    ``overlong_penalty`` falls on answers that reach into the last ``overlong_buffer`` tokens (0: none);
    ``correction`` holds verl's own keys of ``algorithm.rollout_correction``.
    """

    name: str
    rollouts: int
    temperature: float = 1.0
    top_p: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.2
    clip_c: float = 3.0
    loss_aggregation: str = "token-mean"
    policy_loss: str = "vanilla"
    kl_loss: bool = False
    kl_coef: float = 0.001
    kl_type: str = "low_var_kl"
    filter_groups: bool = False
    filter_metric: str = "acc"
    max_gen_batches: int = 5
    overlong_buffer: int = 0
    overlong_penalty: float = 0.5
    validation_temperature: float = 0.0
    validation_top_p: float = 1.0
    correction: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("name", "loss_aggregation", "kl_type", "policy_loss"):
            _known(f"algorithm.{name}", getattr(self, name))
        _whole("algorithm.rollouts", self.rollouts, 2)
        _whole("algorithm.max_gen_batches", self.max_gen_batches, 1)
        _whole("algorithm.overlong_buffer", self.overlong_buffer, 0)
        for name in ("temperature", "top_p", "clip_low", "clip_high", "clip_c", "kl_coef", "overlong_penalty"):
            _above(f"algorithm.{name}", getattr(self, name))
        if not 0 <= self.validation_temperature < math.inf:
            raise HarnessError(
                f"algorithm.validation_temperature {self.validation_temperature}",
                "it is 0 (greedy) or more",
                "give one",
            )
        if self.clip_high < self.clip_low:
            raise HarnessError(
                f"algorithm.clip_high {self.clip_high:g} below clip_low {self.clip_low:g}",
                "clip-higher widens the upper side",
                "swap the two",
            )
        if self.name == DAPO and self.kl_loss:
            raise HarnessError("algorithm.kl_loss with dapo", "DAPO has no KL term", "drop it, or name grpo")
        for key in self.correction:
            if key not in CORRECTION_KEYS:
                raise HarnessError(
                    f"algorithm.correction key {key!r}", "verl has no such key", nearest(key, CORRECTION_KEYS)
                )


@dataclass(frozen=True)
class OptimizerPart:
    """AdamW's settings, ``mini_batch`` prompts for each update, ``micro_batch`` sequences on a device at a time.

    ``dropout`` is that of the attention weights, the only one that Qwen2 has.
    """

    learning_rate: float
    mini_batch: int
    micro_batch: int = 4
    warmup_steps: int = 0
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _above("optimizer.learning_rate", self.learning_rate)
        _above("optimizer.grad_clip", self.grad_clip)
        for name, least in (("mini_batch", 1), ("micro_batch", 1), ("warmup_steps", 0)):
            _whole(f"optimizer.{name}", getattr(self, name), least)
        for name in ("weight_decay", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise HarnessError(f"optimizer.{name} {getattr(self, name)}", "it is from 0 to below 1", "correct it")


@dataclass(frozen=True)
class TuningPart:
    """Full fine-tuning, or an adapter of ``rank`` on ``targets`` (``all-linear``, or names of modules)."""

    kind: str = FULL
    rank: int = 0
    alpha: int = 16
    targets: tuple[str, ...] = ("all-linear",)

    def __post_init__(self) -> None:
        _known("tuning.kind", self.kind)
        _whole("tuning.rank", self.rank, 1 if self.kind == LORA else 0)
        _whole("tuning.alpha", self.alpha, 1)
        if self.kind == FULL and self.rank:
            raise HarnessError(
                f"tuning.rank {self.rank} with full", "only an adapter has a rank", 'write kind = "lora"'
            )
        if not self.targets:
            raise HarnessError("no tuning.targets", "an adapter sits somewhere", "write all-linear")
        object.__setattr__(self, "targets", tuple(sorted(set(self.targets))))


@dataclass(frozen=True)
class RunPart:
    """How long and from which seed; ``steps`` 0 means what the epochs come to.

    ``gpu_hours_per_step`` is what the sources took (0: they do not say).
    """

    epochs: int
    validate_every: int
    save_every: int
    steps: int = 0
    seed: int = 0
    validate_first: bool = True
    gpu_hours_per_step: float = 0.0

    def __post_init__(self) -> None:
        _whole("run.epochs", self.epochs, 1)
        _whole("run.steps", self.steps, 0)
        _whole("run.seed", self.seed, 0)
        for name in ("validate_every", "save_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value == 0 or value < -1:
                raise HarnessError(f"run.{name} {value!r}", "it is a number of steps, or -1 for never", "give one")


@dataclass(frozen=True)
class MachinePart:
    """Where it runs; no part of what it computes. ``ray_address`` empty starts a Ray of its own."""

    platform: str = CUDA
    nodes: int = 1
    devices: int = 8
    ray_address: str = ""

    def __post_init__(self) -> None:
        _known("machine.platform", self.platform)
        _whole("machine.nodes", self.nodes, 1)
        _whole("machine.devices", self.devices, 1)


def _known(name: str, value: str) -> None:
    if value not in CHOICES[name]:
        raise HarnessError(f"{name} {value!r}", "it is one of a list", nearest(value, CHOICES[name]))


def _whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise HarnessError(f"{name} {value!r}", f"it is a whole number from {least} up", "correct it")


def _above(name: str, value: float) -> None:
    if isinstance(value, bool) or not 0 < value < math.inf:
        raise HarnessError(f"{name} {value!r}", "it is a finite number above 0", "correct it")
