"""verl's synchronous trainer, which sets the noise of every pass and brings back what every process did.

Rollouts of step k run on the weights of step k - 1, and so under AQN's sigma of step k - 1. Validation is clean; where
the recipe asks for a noisy one too, it runs apart, under metrics that begin with ``noisy-``. The actor judges the
answers of both: ``robust/validation_k3_kl`` (no noise on either side, and no AQN left in the rollout's weights),
``robust/noisy_validation_k3_kl`` (noise on both) and its control ``robust/independent_validation_k3_kl`` (the actor
draws apart); with each the largest abs(dlogp), ``..._dlogp_max``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from harness.record import FORWARD
from harness.training.data import prompts_hash
from harness.training.injection import ONE_SIDE, ROLLOUT, SAME, VALIDATION
from harness.training.sizes import sizes_of
from harness.training.verl_plugin import LEDGER_VARIABLE, TRAINER
from harness.training.verl_plugin.apart import Apart
from harness.training.verl_plugin.echo import echo
from harness.training.verl_plugin.gradients import least
from harness.training.verl_plugin.keys import draw_seed
from harness.training.verl_plugin.ledgers import changed, of_noise, relative_error
from harness.training.verl_plugin.plans import CONTROL, NOISY, aqn_targets, recipe_here, rollout_plan
from harness.training.verl_plugin.probing import each_sampled, judged, prompts_of, trained_apart
from harness.training.verl_plugin.processes import Processes

OFF = 0.0
POLL = 0.05
"""Seconds between two looks at the replay buffer; verl's own two seconds are the floor of every step."""

BEGUN, STEP, VALIDATED = "begun", "step", "validated"


@register_trainer(TRAINER)
class RobustTrainer(PPOTrainerSync):
    """The trainer of a run of the harness."""

    def __init__(self, config: Any) -> None:
        config.trainer.v1.trainer_mode = "sync"  # verl compares the name in many places
        super().__init__(config)
        self._recipe = recipe_here()
        self._aqn = self._recipe.aqn_config(sizes_of(self._recipe).layers)
        path = config.actor_rollout_ref.model.path
        self._targets = [] if self._aqn is None else aqn_targets(self._aqn, path)
        plan = rollout_plan(self._recipe, path)
        self._sites = None if plan is None else [site.name for site in plan.noise.sites]
        self._level = OFF if plan is None else plan.level
        self._processes = Processes(self)
        self._robust: dict[str, float] = {}
        self._doses: list[dict[str, Any]] = []
        self._drawn: list[int] = []
        self._validated: set[tuple[int, ...]] = set()
        self.replay_buffer.poll_interval = POLL

    def _next_train_batch(self, num_prompts: int | None = None) -> Any:
        batch = super()._next_train_batch(num_prompts)
        self._drawn += [int(index) for index in batch["index"]]
        return batch

    def _note(self, kind: str, **told: Any) -> None:
        """Append a line to the run's ledger."""
        with Path(os.environ[LEDGER_VARIABLE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": self.global_steps, **told}, allow_nan=False) + "\n")

    def _seed(self, step: int) -> int:
        draws = SAME if self._recipe.noise is None else self._recipe.noise.draws
        return draw_seed(self._recipe.run.seed, step, ROLLOUT, draws)

    def on_init_end(self) -> None:
        """Send the weights as verl does; then write down what every process says of itself, and put AQN on."""
        super().on_init_end()
        effective = self._recipe.effective_hash(sizes_of(self._recipe).layers)
        echoes = [echo(self.config), *self._processes.echoes()]
        told = {"rollout": self._processes.begun(), "effective": effective, "echoes": echoes}
        self._note(BEGUN, **told, planned_steps=self.total_training_steps, aqn_targets=self._targets)
        self._put_aqn_on()

    def _put_aqn_on(self) -> None:
        if self._aqn is not None:
            self._doses = self._processes.aqn(self.global_steps)

    def on_step_begin(self) -> None:
        """Give both sides the seed of the step, and the rollout its level."""
        super().on_step_begin()
        noise = self._recipe.noise
        rollout = noise is not None and noise.in_rollout
        self._processes.set_step(self.global_steps)
        self._processes.set_level(self._level if rollout else OFF, self._seed(self.global_steps))

    def on_step_end(self) -> None:
        """Collect what the step did before the sync, which takes AQN's noise back; then put the next one on."""
        actor = self._processes.actor_reports()
        rollout = self._processes.rollout_reports([self._level], self._sites)
        doses = self._doses
        super().on_step_end()
        self._put_aqn_on()
        drawn, self._drawn = self._drawn, []
        self._note(STEP, actor=actor, rollout=rollout, doses=doses, drawn=drawn)
        self._robust = metrics_of(actor, rollout, doses)

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> Any:
        """Train as verl does; with dynamic sampling say which share of the prompts was kept."""
        batch = super().step(metrics, timing_raw)
        if self._recipe.algorithm.filter_groups and self._drawn:
            dropped = metrics.get("training/filter_groups/evicted_samples", 0)
            metrics["robust/kept_prompts"] = 1 - dropped / len(self._drawn)
        return batch

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        batch = super()._compute_old_log_prob(batch, metrics)
        if not self.config.algorithm.rollout_correction.bypass_mode:
            metrics["robust/dlogp_max"] = trained_apart(batch).largest
        return batch

    def _consume_sync_metrics(self) -> dict[str, Any]:
        found, self._robust = self._robust, {}
        return {**super()._consume_sync_metrics(), **found}

    def on_validate_begin(self) -> None:
        """Switch noise and AQN off."""
        super().on_validate_begin()
        self._processes.set_level(OFF, 0)
        self._taken_back = self._processes.aqn(None)
        self._processes.rollout_reports([OFF], None)

    def on_validate_end(self) -> None:
        """Write down what was perturbed in the validation, and put AQN back on."""
        rollout = self._processes.rollout_reports([OFF, self._level], self._sites)
        actor = self._processes.actor_reports()
        prompts, self._validated = prompts_hash(self._validated), set()
        self._note(VALIDATED, rollout=rollout, actor=actor, taken_back=self._taken_back, prompts=prompts)
        self._put_aqn_on()
        super().on_validate_end()

    def _validate(self) -> dict[str, float]:
        with self._judging(VALIDATION) as told:
            found: dict[str, float] = super()._validate()
        found |= told
        noise = self._recipe.noise
        if noise is None or VALIDATION not in noise.passes:
            return found
        self._processes.set_level(self._level, self._seed(self.global_steps))
        with self._judging(*(() if noise.draws == ONE_SIDE else (NOISY, CONTROL))) as told:
            noisy: dict[str, float] = super()._validate()
        self._processes.set_level(OFF, 0)
        return {**found, **{f"noisy-{name}": value for name, value in noisy.items()}, **told}

    @contextlib.contextmanager
    def _judging(self, *probes: str) -> Iterator[dict[str, float]]:
        """Have the actor judge in each of ``probes`` what is validated inside; yields metrics, filled at the end."""
        temperature = self.config.actor_rollout_ref.rollout.val_kwargs.temperature or 1.0  # greedy answers at 1
        found = dict.fromkeys(probes, Apart())
        told: dict[str, float] = {}

        def seen(batch: Any) -> None:
            self._validated |= prompts_of(batch)
            for probe in probes:
                self._processes.set_step(self.global_steps, probe)
                found[probe] = found[probe].plus(judged(self, batch, temperature))
            self._processes.set_step(self.global_steps)

        with each_sampled(self.replay_buffer, seen):
            yield told
        for probe, each in found.items():
            told |= each.metrics(f"robust/{probe}_")


def metrics_of(
    actor: list[dict[str, Any]], rollout: list[dict[str, Any]], doses: list[dict[str, Any]]
) -> dict[str, float]:
    """Return what the step's reports come to, as metrics of the driver: sums over processes, sigma of the rollout."""
    found: dict[str, float] = {}
    for report in actor:
        for name, done in report["passes"].items():
            for direction in ("forward", "backward"):
                key = f"robust/{name}_{direction}_changed"
                found[key] = found.get(key, 0) + changed(done["counts"], direction)
            found[f"robust/{name}_error"] = relative_error(of_noise(done["counts"], FORWARD))
    flows = least([done["gradients"] for report in actor for done in report["passes"].values()])
    if flows is not None:
        found["robust/quantized_modules"], found["robust/quantized_gradient_least"] = flows
    lines = [line for report in rollout for line in report["counts"]]
    found["robust/rollout_changed"] = changed(lines)
    found["robust/rollout_error"] = relative_error(of_noise(lines, FORWARD))
    if doses:
        found["robust/aqn_sigma"] = max(dose["sigma"] for dose in doses)
        found["robust/aqn_layers"] = sum(layer["asked"] != 0 for dose in doses for layer in dose["layers"])
    return found
