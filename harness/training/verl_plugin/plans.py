"""Which sites a recipe perturbs in which pass: made on the model's outline, alike in every process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from torch import nn

from harness.aqn.config import AqnConfig
from harness.aqn.holder import ModuleHolder
from harness.checkpoints.outline import build_outline
from harness.exceptions import HarnessError, NoiseSpecError
from harness.noise.experts import check_experts, meant_experts
from harness.noise.plan import InjectionPlan
from harness.noise.planner import build_plan
from harness.noise.stacked import stacked_modules
from harness.spec import NoiseSpec, parse_noise
from harness.training.injection import ACTOR, OLD_LOG_PROB, ONE_SIDE, REFERENCE, ROLLOUT, TRAINING_FORWARD, VALIDATION
from harness.training.recipe import Recipe, current_recipe
from harness.training.sizes import sizes_of

SILENT = "relative_gaussian(0) @ op:linear"
"""The noise of a pass that is only quantized: everything is counted, nothing is changed."""

ACTOR_PASSES = (OLD_LOG_PROB, REFERENCE, TRAINING_FORWARD)
NOISY, CONTROL = "noisy_validation", "independent_validation"
"""Passes in which the actor judges the answers of a noisy validation: with the draws of the recipe, and with draws of
its own, which is the control. The answers of the clean one it judges in the pass ``validation``, without noise."""


@dataclass(frozen=True)
class PassPlan:
    """What acts in one pass: the noise with its level, and the quantizers."""

    noise: InjectionPlan
    quantizers: tuple[InjectionPlan, ...]
    level: float


def recipe_here() -> Recipe:
    """Return the recipe of this process. Raises :class:`HarnessError` where the environment names none."""
    found = current_recipe()
    if found is None:
        raise HarnessError("the verl plugin without a recipe", "its processes are told what to do", "use harness train")
    return found


@cache
def effective_here() -> str:
    """Return the hash of the effective configuration that this process runs under."""
    recipe = recipe_here()
    return recipe.effective_hash(sizes_of(recipe).layers)


def outline(path: str | Path) -> nn.Module:
    """Return the model at ``path`` without weights."""
    return build_outline(Path(path))


def actor_plans(recipe: Recipe, path: str | Path) -> dict[str, PassPlan]:
    """Return what acts in each pass of the actor in which anything does."""
    noise = recipe.noise
    specs = {name: None if noise is None else noise.spec_in(name) for name in ACTOR_PASSES}
    specs |= {VALIDATION: None}
    if noise is not None and noise.draws != ONE_SIDE:
        specs |= dict.fromkeys((NOISY, CONTROL), noise.spec_in(VALIDATION))
    quantized = recipe.quantization is not None and ACTOR in recipe.quantization.sides
    return _plans(recipe, path, specs, quantized)


def rollout_plan(recipe: Recipe, path: str | Path) -> PassPlan | None:
    """Return what acts in rollouts or in noisy validation; None where neither is perturbed."""
    noise = recipe.noise
    spec = None if noise is None else noise.spec_in(ROLLOUT) or noise.spec_in(VALIDATION)
    quantized = recipe.quantization is not None and ROLLOUT in recipe.quantization.sides
    return _plans(recipe, path, {ROLLOUT: spec}, quantized).get(ROLLOUT)


def aqn_targets(config: AqnConfig, path: str | Path) -> list[str]:
    """Return the names of the weights that AQN should be on, from the model's outline."""
    return sorted({piece.name for piece in ModuleHolder(outline(path)).pieces(config.targets)})


def _plans(
    recipe: Recipe, path: str | Path, specs: dict[str, NoiseSpec | None], quantized: bool
) -> dict[str, PassPlan]:
    parts = recipe.quantization.specs() if quantized and recipe.quantization is not None else ()
    wanted = {name: spec for name, spec in specs.items() if spec is not None or parts}
    if not wanted:
        return {}
    model = outline(path)
    quantizers = tuple(build_plan(model, part) for part in parts)
    found = {}
    for name, spec in wanted.items():
        used = silent(model) if spec is None else spec
        assert used.level is not None
        found[name] = PassPlan(build_plan(model, used), quantizers, used.level)
    check_dense(model, [plan for each in found.values() for plan in (each.noise, *each.quantizers)])
    return found


def silent(model: nn.Module) -> NoiseSpec:
    """Return the noise of a pass that is only quantized: nothing changes, and experts are not even counted."""
    stacked = tuple(dict.fromkeys(path.rpartition(".")[2] for path in (*stacked_modules(model), *_unreached(model))))
    return replace(parse_noise(SILENT), exclude=stacked)


def _unreached(model: nn.Module) -> tuple[str, ...]:
    return meant_experts(model, parse_noise(SILENT))


def check_dense(model: nn.Module, plans: Sequence[InjectionPlan]) -> None:
    """Raise :class:`NoiseSpecError` for plans that ask for stacked experts of ``model``: the products of experts in
    verl's actor and in vLLM's rollouts are not reached, and would stay clean."""
    for plan in plans:
        check_experts(model, [plan.spec])
        site = next((site for site in plan.sites if site.field), None)
        if site is not None:
            raise NoiseSpecError(
                f"{plan.spec} in a training arm ({site.name})",
                "the products of experts are reached in an evaluation only, and would stay clean here",
                f"leave them out by name: exclude:{site.module.rpartition('.')[2]}",
            )
