"""verl's FSDP engine with the recipe's noise in its passes, by verl's registry of engines.

Passes are told apart by what verl itself does: the reference is an engine that only runs forward (or the actor with its
adapter off), the old log-probabilities run forward without gradients, training runs with them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp import FSDPEngineWithLMHead

from harness.training.injection import OLD_LOG_PROB, REFERENCE, TRAINING_FORWARD
from harness.training.verl_plugin import VENDOR
from harness.training.verl_plugin.actor_noise import ActorNoise
from harness.training.verl_plugin.keys import items_of
from harness.training.verl_plugin.plans import actor_plans, recipe_here
from harness.training.verl_plugin.weights import Unchanged


class NoisyEngine(FSDPEngineWithLMHead):
    """The engine of actor and reference."""

    noise: ActorNoise
    unchanged: Unchanged
    _adapter_off = False

    def initialize(self) -> None:
        """Build the model as verl does; then plan what is perturbed in it."""
        super().initialize()
        recipe = recipe_here()
        self.noise = ActorNoise(self.module, recipe, actor_plans(recipe, self.model_config.local_path))
        self.unchanged = Unchanged(self.module)

    def forward_backward_batch(
        self, data: Any, loss_function: Callable[..., Any] | None, forward_only: bool = False
    ) -> Any:
        """Run the pass with its noise, from the first forward to the last backward."""
        name = self._pass(forward_only)
        with self.unchanged.during(name), self.noise.during(name):
            return super().forward_backward_batch(data, loss_function, forward_only)

    def _pass(self, forward_only: bool) -> str:
        if self.noise.probe is not None:
            return self.noise.probe
        if self.engine_config.forward_only or self._adapter_off:
            return REFERENCE
        return OLD_LOG_PROB if forward_only else TRAINING_FORWARD

    def forward_step(self, micro_batch: Any, loss_function: Callable[..., Any] | None, forward_only: bool) -> Any:
        """Run one micro-batch under the names of its sequences."""
        answers = micro_batch["responses"].offsets().diff().tolist()
        with self.noise.rows(items_of(micro_batch["input_ids"].unbind(), answers)):
            return super().forward_step(micro_batch, loss_function, forward_only)

    def disable_adapter(self) -> AbstractContextManager[None]:
        """Switch the adapter off: what runs meanwhile is the reference."""
        return self._without_adapter()

    @contextmanager
    def _without_adapter(self) -> Any:
        with super().disable_adapter():
            self._adapter_off = True
            try:
                yield
            finally:
                self._adapter_off = False


def register() -> None:
    """Register the engine for every device, chosen by ``VERL_ENGINE_VENDOR``; a second call does nothing.

    verl imports this module wherever it reads the model's configuration, more than once in some processes.
    """
    known = EngineRegistry._engines.get("language_model", {}).get("fsdp2", {})
    if ("cpu", VENDOR) not in known:
        EngineRegistry.register("language_model", ["fsdp", "fsdp2"], ["cpu", "cuda"], VENDOR)(NoisyEngine)
