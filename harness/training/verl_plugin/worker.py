"""The extension of vLLM's workers under verl: noise, AQN and verl's own weight sync in one class.

Imported by vLLM in each worker process before the model is built, which is when weights must be kept loadable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from vllm.platforms import current_platform

from harness.aqn.worker import AqnWorker
from harness.integrations.vllm_plugin.worker import RobustnessWorker
from harness.noise.ledger import process_name
from harness.training.verl_plugin import obstacles
from harness.training.verl_plugin.plans import effective_here
from harness.training.verl_plugin.weights import digest_of

QUALIFIED_NAME = "harness.training.verl_plugin.worker.VerlWorker"

if current_platform.is_cpu():
    obstacles.weights_stay_loadable()
obstacles.mapper_was_renamed()


class VerlWorker(RobustnessWorker, AqnWorker, vLLMColocateWorkerExtension):
    """Mixed into vLLM's worker class."""

    _noisy = False
    _sync: Mapping[str, Any] | None = None
    _loaded = ""

    def verl_begin(self, noisy: bool, aqn: Mapping[str, Any] | None) -> dict[str, Any]:
        """Open the noise session where the rollout is perturbed, and configure AQN; return what this process says."""
        self._noisy = noisy
        report: dict[str, Any] = {"process": process_name(), "problems": []}
        if noisy:
            report = self.robustness_attach()
            self.robustness_set(0.0)
        report["effective"] = effective_here()
        report["aqn"] = None if aqn is None else self.aqn_configure(aqn)
        model = self.vllm_config.model_config
        report["built"] = {
            "dtype": str(model.dtype).removeprefix("torch."),
            "max_model_len": model.max_model_len,
            "enforce_eager": model.enforce_eager,
            "seed": model.seed,
        }
        return report

    def verl_level(self, level: float, seed: int) -> None:
        """Set the noise of all requests from here on."""
        if self._noisy:
            self.robustness_set(level, seed)

    def update_weights_from_ipc(
        self, peft_config: dict[str, Any] | None = None, base_sync_done: bool = False, use_shm: bool = False
    ) -> None:
        """Take AQN's noise back, then load the actor's weights, which are quantized anew.

        Under LoRA the base is not sent again, and stays quantized: without the restore AQN's noise would add up.
        """
        self._sync = self.aqn_restore()
        if self._noisy and not (peft_config and base_sync_done):
            self.robustness_reload()
        super().update_weights_from_ipc(peft_config, base_sync_done, use_shm)
        self._loaded = self._weights()

    def aqn_restore(self) -> dict[str, list[str]]:
        """Take AQN's noise back; ``weights`` are digests of what the last sync brought, and of what is there then."""
        done = super().aqn_restore()
        return done | {"weights": [self._loaded, self._weights()] if self._loaded else []}

    def _weights(self) -> str:
        return digest_of(self.model_runner.get_model().named_parameters())

    def verl_report(self, levels: list[float]) -> dict[str, Any]:
        """Return the ledger since the last report and what the last sync restored; plain data."""
        drained: dict[str, Any] = self.robustness_drain(levels) if self._noisy else {"counts": [], "problems": []}
        return drained | {"process": process_name(), "restored": self._sync}
