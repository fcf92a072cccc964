"""Mismatches planted in the processes of a real verl run: each is one fault of FAILURES.md, made by patching a class.

The folder of :func:`write_startup` on PYTHONPATH makes every Python process of the run (driver, Ray workers, vLLM's
workers) patch the module that the plant names, once it is imported there. The sources stay as they are, so that no hash
of the code gives a plant away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PLANTS = "PLANTED_MISMATCHES"
STARTUP = "from suites.slow.planted import plant\n\nplant()\n"
PLUGIN = "harness.training.verl_plugin"


@dataclass(frozen=True)
class Mismatch:
    """What is patched in ``module``, under which recipe it shows, and the checks of which each must name it."""

    module: str
    patch: Callable[[Any], None]
    recipe: str
    checks: tuple[str, ...]


def write_startup(folder: Path) -> Path:
    """Return ``folder`` with what Python runs at its start, to go on PYTHONPATH."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(STARTUP)
    return folder


def plant() -> None:
    """Patch what the environment names, whenever its module is imported in this process."""
    names = os.environ.get(PLANTS)
    for name in names.split(",") if names else ():
        import wrapt

        wrapt.register_post_import_hook(MISMATCHES[name].patch, MISMATCHES[name].module)


def rollout_without_noise(worker: Any) -> None:
    given = worker.VerlWorker.verl_level
    worker.VerlWorker.verl_level = lambda self, level, seed: given(self, 0.0, seed)


def rollout_with_other_draws(replica: Any) -> None:
    given = replica.RobustServer.robust_level

    async def robust_level(self: Any, level: float, seed: int) -> None:
        await given(self, level, seed + 1)  # Ray awaits what is declared so

    replica.RobustServer.robust_level = robust_level


def schedule_stuck(worker: Any) -> None:
    given = worker.AqnWorker.aqn_apply
    worker.AqnWorker.aqn_apply = lambda self, step: given(self, 0)


def restore_skipped(session: Any) -> None:
    """The report is as ever, the weights keep their noise."""

    def restore(self: Any) -> Any:
        kept, self._kept, self._dose = self._kept, [], None
        for each in kept:
            if each.undo is not None:
                each.undo()
        return session.Restored(tuple(each.piece.name for each in kept), ())

    session.Aqn.restore = restore


def norm_left_out(worker: Any) -> None:
    """An exclude in the rollout alone, which takes AQN from half of its norms."""
    given = worker.AqnWorker.aqn_configure

    def aqn_configure(self: Any, settings: Any) -> Any:
        targets = settings["targets"]
        return given(self, {**settings, "targets": {**targets, "exclude": [*targets["exclude"], "input_*norm"]}})

    worker.AqnWorker.aqn_configure = aqn_configure


def substring_exclude(replica: Any) -> None:
    """An exclude matched as a substring takes the output projection out of every layer, in the rollout alone."""
    given = replica.rollout_plan

    def rollout_plan(recipe: Any, path: Any) -> Any:
        plan = given(recipe, path)
        kept = tuple(site for site in plan.noise.sites if "o_proj" not in site.name)
        return replace(plan, noise=replace(plan.noise, sites=kept))

    replica.rollout_plan = rollout_plan


def weight_layout(worker: Any) -> None:
    """A sync that leaves one square projection transposed."""
    _after_sync(worker, lambda name, value: value.copy_(value.t().clone()) if _is_square(name) else None)


def wrong_base(worker: Any) -> None:
    """A rollout whose first norm comes from another checkpoint."""
    _after_sync(worker, lambda name, value: value.mul_(1.02) if name.endswith("0.input_layernorm.weight") else None)


def validation_under_noise(trainer: Any) -> None:
    given = trainer.RobustTrainer.on_validate_begin

    def on_validate_begin(self: Any) -> None:
        given(self)
        self._processes.set_level(self._level, 1)

    trainer.RobustTrainer.on_validate_begin = on_validate_begin


def backward_clean(actor_noise: Any) -> None:
    """The training pass is perturbed forward alone."""
    given = actor_noise._placed

    def placed(plan: Any, model: Any) -> Any:
        return given(replace(plan, noise=replace(plan.noise, spec=replace(plan.noise.spec, when="forward"))), model)

    actor_noise._placed = placed


def gradient_zero(engine: Any) -> None:
    given = engine.NoisyEngine.forward_backward_batch

    def forward_backward_batch(self: Any, data: Any, loss: Any, forward_only: bool = False) -> Any:
        done = given(self, data, loss, forward_only)
        for weight in self.module.parameters():
            if weight.grad is not None:
                weight.grad.zero_()
        return done

    engine.NoisyEngine.forward_backward_batch = forward_backward_batch


def other_recipe(worker: Any) -> None:
    """A vLLM worker that runs under another configuration than the driver."""
    worker.effective_here = lambda: "0" * 16


def actor_changes_weights(engine: Any) -> None:
    """A pass of the actor that leaves its noise in the weights."""
    given = engine.NoisyEngine.forward_step

    def forward_step(self: Any, *arguments: Any, **named: Any) -> Any:
        done = given(self, *arguments, **named)
        for name, weight in self.module.named_parameters():
            if name.endswith("norm.weight"):
                weight.data.mul_(1.001)
        return done

    engine.NoisyEngine.forward_step = forward_step


def stale_scale(worker: Any) -> None:
    """Quantized weights that are laid out by the scales of another version: one linear is 1 % too large."""
    _after_sync(worker, lambda name, value: value.mul_(1.01) if "layers.0.mlp.down_proj" in name else None)


def straight_through_missing(actor_noise: Any) -> None:
    """A quantizer of the actor through which no gradient passes."""
    given = actor_noise.ActorNoise._gradients

    def gradients(self: Any, name: str, plan: Any) -> Any:
        self._quantization = replace(self._quantization, straight_through=False)
        return given(self, name, plan)

    actor_noise.ActorNoise._gradients = gradients


def quantizer_in_actor_alone(replica: Any) -> None:
    given = replica.rollout_plan
    replica.rollout_plan = lambda recipe, path: replace(given(recipe, path), quantizers=())


def head_quantized(replica: Any) -> None:
    """What must stay unquantized (a head, a router) is quantized, in the rollout alone."""
    given = replica.rollout_plan

    def rollout_plan(recipe: Any, path: Any) -> Any:
        part = replace(recipe.quantization, head=True, exclude=())
        return given(replace(recipe, quantization=part), path)

    replica.rollout_plan = rollout_plan


def adapter_quantized(worker: Any) -> None:
    """An adapter that is rounded to 15 values on its way into the rollout."""

    def change(self: Any) -> None:
        for module in self.model_runner.get_model().modules():
            for matrix in getattr(module, "lora_a_stacked", ()):
                step = matrix.abs().max() / 7
                if step:
                    matrix.copy_((matrix / step).round() * step)

    _around_sync(worker, change)


def _after_sync(worker: Any, change: Callable[[str, Any], Any]) -> None:
    """Change parameters of the rollout after every weight sync."""

    def each(self: Any) -> None:
        for name, value in self.model_runner.get_model().named_parameters():
            change(name, value)

    _around_sync(worker, each)


def _around_sync(worker: Any, change: Callable[[Any], None]) -> None:
    import torch

    given = worker.vLLMColocateWorkerExtension.update_weights_from_ipc

    def update_weights_from_ipc(self: Any, *arguments: Any, **named: Any) -> Any:
        done = given(self, *arguments, **named)
        with torch.no_grad():
            change(self)
        return done

    worker.vLLMColocateWorkerExtension.update_weights_from_ipc = update_weights_from_ipc


def _is_square(name: str) -> bool:
    return name.endswith("1.self_attn.o_proj.weight")


NOISY, ADAPTER = "E5b-hw", "E5a-lora"
"""Full tuning under noise and AQN, and an adapter on weights in 4 bits under noise; both with the same draws."""

MISMATCHES = {
    "rollout without noise": Mismatch(f"{PLUGIN}.worker", rollout_without_noise, NOISY, ("noise_missing",)),
    "rollout with other draws": Mismatch(f"{PLUGIN}.replica", rollout_with_other_draws, NOISY, ("draws_not_as_asked",)),
    "schedule stuck": Mismatch(f"{PLUGIN}.worker", schedule_stuck, NOISY, ("sigma_not_scheduled",)),
    "restore skipped": Mismatch(
        "harness.aqn.session", restore_skipped, NOISY, ("weights_not_restored", "validation_not_clean")
    ),
    "norm left out": Mismatch(f"{PLUGIN}.worker", norm_left_out, NOISY, ("aqn_targets_differ",)),
    "substring exclude": Mismatch(f"{PLUGIN}.replica", substring_exclude, NOISY, ("hooked_modules_differ",)),
    "weight layout": Mismatch(f"{PLUGIN}.worker", weight_layout, NOISY, ("validation_not_clean",)),
    "wrong base": Mismatch(f"{PLUGIN}.worker", wrong_base, NOISY, ("validation_not_clean",)),
    "validation under noise": Mismatch(
        f"{PLUGIN}.trainer", validation_under_noise, NOISY, ("clean_validation_was_noisy",)
    ),
    "backward clean": Mismatch(f"{PLUGIN}.actor_noise", backward_clean, NOISY, ("noise_missing",)),
    "gradient zero": Mismatch(f"{PLUGIN}.engine", gradient_zero, NOISY, ("gradient_vanished",)),
    "other recipe": Mismatch(f"{PLUGIN}.worker", other_recipe, NOISY, ("effective_configuration_differs",)),
    "actor changes weights": Mismatch(f"{PLUGIN}.engine", actor_changes_weights, NOISY, ("weights_not_restored",)),
    "stale scale": Mismatch(f"{PLUGIN}.worker", stale_scale, ADAPTER, ("policies_apart", "validation_not_clean")),
    "no straight-through gradient": Mismatch(
        f"{PLUGIN}.actor_noise", straight_through_missing, ADAPTER, ("quantized_gradient_vanished",)
    ),
    "quantizer in the actor alone": Mismatch(
        f"{PLUGIN}.replica", quantizer_in_actor_alone, ADAPTER, ("quantizer_missing",)
    ),
    "quantized head": Mismatch(f"{PLUGIN}.replica", head_quantized, ADAPTER, ("quantized_sites_differ",)),
    "quantized adapter": Mismatch(f"{PLUGIN}.worker", adapter_quantized, ADAPTER, ("policies_apart",)),
}

RUNS = (
    ("schedule stuck", "gradient zero", "other recipe", "substring exclude"),
    ("backward clean", "rollout with other draws"),
    ("restore skipped",),
    ("validation under noise", "actor changes weights"),
    ("rollout without noise", "wrong base"),
    ("weight layout", "norm left out"),
    ("stale scale", "no straight-through gradient"),
    ("quantizer in the actor alone",),
    ("quantized head",),
    ("quantized adapter",),
)
"""What is planted together: mismatches of one recipe of which none can fail the check that names another."""
