"""How the driver reaches the other processes: the actor's workers and the rollout's servers are actors of Ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray

from harness.integrations.vllm_plugin.worker import counts_of
from harness.training.injection import ROLLOUT
from harness.training.verl_plugin.echo import WORKER, echo, engine_echo
from harness.training.verl_plugin.ledgers import summarised
from harness.training.verl_plugin.plans import effective_here


def engines_in(worker: Any) -> Iterator[Any]:
    """Yield the engines of verl's colocated worker: those of the actor and of the reference."""
    for part in worker.worker_dict.values():
        for name in ("actor", "ref"):
            holder = getattr(part, name, None)
            if holder is not None:
                yield holder.engine


def set_step(worker: Any, step: int, probe: str | None) -> None:
    """Tell every engine of ``worker`` the step, and the pass that it runs apart; runs in its process."""
    for engine in engines_in(worker):
        engine.noise.step = step
        engine.noise.probe = probe


def reports_of(worker: Any) -> list[dict[str, Any]]:
    """Return what every engine of ``worker`` did since the last report; runs in its process."""
    found = []
    for engine in engines_in(worker):
        report = engine.noise.report() | {"weights_kept": engine.unchanged.report(), "effective": effective_here()}
        sites = report.pop("sites")
        for name, done in report["passes"].items():
            done["counts"] = summarised(done["counts"], sites.get(name))
        found.append(report)
    return found


def echoes_of(worker: Any) -> list[dict[str, Any]]:
    """Return the settings that every part of ``worker`` holds, with what was built of them; runs in its process."""
    return [
        echo(part.config, WORKER, engines=[engine_echo(engine) for engine in engines_in(worker)])
        for part in worker.worker_dict.values()
    ]


class Processes:
    """The actors of Ray that a trainer has."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    @property
    def _workers(self) -> list[Any]:
        groups = [self._trainer.actor_rollout_wg]
        reference = getattr(self._trainer, "ref_policy_wg", None)
        if reference is not None and reference is not groups[0]:
            groups.append(reference)
        return list({worker._actor_id: worker for group in groups for worker in group.workers}.values())

    @property
    def _servers(self) -> list[Any]:
        return [server for replica in self._trainer.llm_server_manager.get_replicas() for server in replica.servers]

    def set_step(self, step: int, probe: str | None = None) -> None:
        """Tell the actor's processes the step, and which pass they run apart from training."""
        ray.get([worker.__ray_call__.remote(set_step, step, probe) for worker in self._workers])

    def set_level(self, level: float, seed: int) -> None:
        """Set the noise of all requests of all servers."""
        ray.get([server.robust_level.remote(level, seed) for server in self._servers])

    def aqn(self, step: int | None) -> list[dict[str, Any]]:
        """Apply AQN's noise of ``step`` in every vLLM worker, or take it back with None; return what each says."""
        return [each for found in ray.get([s.robust_aqn.remote(step) for s in self._servers]) for each in found]

    def echoes(self) -> list[dict[str, Any]]:
        """Return the settings that every worker and every server holds."""
        told = [worker.__ray_call__.remote(echoes_of) for worker in self._workers]
        told += [server.robust_echo.remote() for server in self._servers]
        return [each for found in ray.get(told) for each in found]

    def begun(self) -> list[dict[str, Any]]:
        """Return what every vLLM worker said of itself when it began."""
        return [each for found in ray.get([s.robust_begun.remote() for s in self._servers]) for each in found]

    def actor_reports(self) -> list[dict[str, Any]]:
        """Return what every engine did since the last call."""
        return [each for found in ray.get([w.__ray_call__.remote(reports_of) for w in self._workers]) for each in found]

    def rollout_reports(self, levels: list[float], sites: list[str] | None) -> list[dict[str, Any]]:
        """Return what every vLLM worker did since the last call; ``sites`` are those that were planned."""
        found = []
        for reports in ray.get([server.robust_report.remote(levels) for server in self._servers]):
            for report in reports:
                counts = [vars(count) for count in counts_of(report["counts"])]
                found.append({**report, "side": ROLLOUT, "counts": summarised(counts, sites)})
        return found
