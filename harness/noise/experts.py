"""Which modules of a model are stacked experts, and the refusal of an evaluation that would leave them clean unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise.kinds import ModelView, class_names
from harness.noise.plan import InjectionPlan
from harness.noise.selection import left_out
from harness.noise.sites import FUNCTION
from harness.noise.stacked import stacked_fields
from harness.spec.experts import asks_for_linears, pattern_for, unreached
from harness.spec.noise import NoiseSpec


def stacked_experts(view: ModelView) -> tuple[str, ...]:
    """Return the paths of modules that hold the weights of several experts themselves and whose products no site
    reaches, in module order.

    They lie under the name ``experts``, or a class of theirs says ``Expert``, and have parameters of their own of at
    least two dimensions; a linear is none (experts that are a list of linears are linears).
    """
    return tuple(
        path
        for path, module in view.modules.items()
        if view.kinds[path] is None
        and path not in view.routers
        and not stacked_fields(module)
        and _named(path, module)
        and _holds(module)
    )


def meant_experts(model: nn.Module, spec: NoiseSpec) -> tuple[str, ...]:
    """Return the paths of the stacked experts of ``model`` whose products ``spec`` asks for; no weight is read."""
    if not asks_for_linears(spec):
        return ()
    return tuple(path for path in stacked_experts(ModelView.of(model)) if left_out(path, spec) is None)


def check_experts(model: nn.Module, specs: Sequence[NoiseSpec]) -> None:
    """Raise :class:`NoiseSpecError` for a specification that asks for all linears of ``model``, stacked experts among
    them, and does not leave these out by name: no evaluation can perturb their products, and they would stay clean."""
    for spec in specs:
        if not (names := meant_experts(model, spec)):
            continue
        more = f", {len(names)} in all" if len(names) > 1 else ""
        raise NoiseSpecError(
            f"{spec} in a mixture of experts ({names[0]}{more})",
            "the products of these experts cannot be perturbed and would stay clean",
            f"leave them out by name: {replace(spec, exclude=(*spec.exclude, *pattern_for(names)))}",
        )


def clean_experts(plan: InjectionPlan) -> tuple[str, ...]:
    """Return the names of products of experts that ``plan`` cannot perturb in an evaluation: those that no site
    reaches, and calls of functions inside experts, whose rows belong to no item."""
    called = (site.name for site in plan.sites if site.way == FUNCTION and site.module in plan.experts)
    return tuple(dict.fromkeys((*unreached(plan.uncovered, plan.spec), *called)))


def _named(path: str, module: nn.Module) -> bool:
    return path.rpartition(".")[2] == "experts" or any("Expert" in name for name in class_names(type(module)))


def _holds(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))
