"""The rollout's vLLM servers with the recipe's noise and AQN, by verl's registry of replicas."""

from __future__ import annotations

from typing import Any

import ray
from verl.workers.rollout.replica import RolloutReplicaRegistry
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

from harness.exceptions import EvidenceError
from harness.integrations.vllm_plugin.payload import KEY, METHOD, Payload
from harness.training.sizes import sizes_of
from harness.training.verl_plugin.echo import ROLLOUT, echo
from harness.training.verl_plugin.plans import outline, recipe_here, rollout_plan
from harness.training.verl_plugin.worker import QUALIFIED_NAME


def engine_arguments(path: str) -> dict[str, Any]:
    """Return vLLM's arguments for the recipe of this process.

    The prefix cache would answer for tokens that get other noise now; asynchronous scheduling changes the counts.
    """
    recipe = recipe_here()
    found: dict[str, Any] = {
        "worker_extension_cls": QUALIFIED_NAME,
        "enable_prefix_caching": False,
        "async_scheduling": False,
    }
    plan = rollout_plan(recipe, path)
    if plan is not None:
        payload = Payload.of(outline(path), plan.noise, plan.quantizers, recipe.recipe_hash)
        found |= {"quantization": METHOD, "additional_config": {KEY: payload.to_json()}}
    return found


class RobustServer(vLLMHttpServer):
    """A server that opens the noise of its workers, and lets the driver set and read it."""

    def _preprocess_engine_kwargs(self, engine_kwargs: dict[str, Any]) -> None:
        super()._preprocess_engine_kwargs(engine_kwargs)
        engine_kwargs.update(engine_arguments(self.model_config.local_path))
        self._noisy = "additional_config" in engine_kwargs

    async def run_server(self, args: Any) -> None:
        """Start as verl does; then every worker must show that it can do what the recipe asks."""
        await super().run_server(args)
        recipe = recipe_here()
        aqn = recipe.aqn_config(sizes_of(recipe).layers)
        settings = None if aqn is None else aqn.to_json()
        self.begun = await self.engine.collective_rpc("verl_begin", args=(self._noisy, settings))
        problems = [f"vLLM process {each['process']}: {word}" for each in self.begun for word in each["problems"]]
        if problems:
            raise EvidenceError(
                "; ".join(problems), "a process that cannot show its noise proves nothing", "correct it"
            )

    async def robust_level(self, level: float, seed: int) -> None:
        """Set the operator noise of all requests from here on."""
        await self.engine.collective_rpc("verl_level", args=(level, seed))

    async def robust_aqn(self, step: int | None) -> list[dict[str, Any]]:
        """Apply AQN's noise of ``step`` and return the doses; None takes it back."""
        if step is None:
            return list(await self.engine.collective_rpc("aqn_restore"))
        return list(await self.engine.collective_rpc("aqn_apply", args=(step,)))

    async def robust_report(self, levels: list[float]) -> list[dict[str, Any]]:
        """Return what every worker did since the last report."""
        return list(await self.engine.collective_rpc("verl_report", args=(levels,)))

    async def robust_echo(self) -> list[dict[str, Any]]:
        """Return the settings that this server holds, and its workers' own."""
        return [echo(self.config, ROLLOUT, workers=[each["built"] for each in self.begun])]

    async def robust_begun(self) -> list[dict[str, Any]]:
        """Return what every worker said of itself when it began."""
        return list(self.begun)


class RobustReplica(vLLMReplica):
    """A replica of such servers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(RobustServer)


def register() -> None:
    """Register the replica in place of verl's own."""
    RolloutReplicaRegistry.register("vllm", lambda: RobustReplica)
