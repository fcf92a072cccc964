"""How much of a model's matrix products lies in the sites of a plan, by floating-point operations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from harness.coverage import Coverage, coverage_digest
from harness.noise.plan import InjectionPlan, Probe
from harness.noise.sites import CONV1D, FUNCTION, LINEAR, MATMUL, MODULE, PV, QK, ROTARY, SDPA, Site, is_attention
from harness.spec.noise import NoiseSpec
from harness.spec.tokens import in_spans

WHOLE = (LINEAR, CONV1D, SDPA, ROTARY)
"""Operators that are all the products of their module."""

PRODUCTS = (*WHOLE, QK, PV, MATMUL, "bmm", "einsum")


def product_share(plan: InjectionPlan, model: nn.Module, tokens: int) -> dict[str, Any]:
    """Return the FLOPs of all products in a forward over ``tokens`` tokens, those whose own result, input or weight is
    perturbed, and those inside larger modules of which only the result is (fractions of all in ``share`` and
    ``share_inside``).

    Scaled from the probe: attention by the square of the tokens, all else by the tokens.
    """
    probe = plan.probe
    if probe is None:
        return {"flops": 0, "perturbed": 0, "inside": 0, "share": 0.0, "share_inside": 0.0}
    modules = dict(model.named_modules())
    own = _own_parts(plan)
    blocks = [site.module for site in plan.sites if site.way == MODULE and site.op not in PRODUCTS]
    total = perturbed = inside = 0.0
    for module, flops in probe.flops.items():
        growth = tokens / probe.tokens
        scaled = flops * (growth**2 if _attends(modules[module]) else growth)
        covered = min(1.0, own.get(module, 0.0))
        total += scaled
        perturbed += covered * scaled
        if any(module.startswith(f"{block}.") for block in blocks):
            inside += (1 - covered) * scaled
    whole = total or 1.0
    return {
        "flops": round(total),
        "perturbed": round(perturbed),
        "inside": round(inside),
        "share": perturbed / whole,
        "share_inside": inside / whole,
    }


def selected_share(plan: InjectionPlan, model: nn.Module, prompt: int, generated: int) -> dict[str, Any]:
    """Return what the plan's selection of tokens takes of a sequence of ``prompt`` tokens and ``generated`` ones: rows
    of layers and of the head, all of both, and the share of the FLOPs of all products that is perturbed (fraction).

    The last token generated is fed to nothing. FLOPs are those of :func:`product_share`, a token at a time.
    """
    fed, spans = prompt + generated - 1, plan.spec.spans
    chosen = [position for position in range(fed) if in_spans(position - prompt + 1, spans)]
    every, perturbed = (
        [product_share(plan, model, tokens)[name] for tokens in range(fed + 1)] for name in ("flops", "perturbed")
    )
    return {
        "tokens": list(plan.spec.tokens),
        "prompt": prompt,
        "generated": generated,
        "rows": len(chosen),
        "of_rows": fed,
        "head_rows": sum(position >= prompt - 1 for position in chosen),
        "of_head_rows": generated,
        "share": sum(perturbed[at + 1] - perturbed[at] for at in chosen) / (every[fed] or 1.0),
    }


def _attends(module: nn.Module) -> bool:
    """Return True for an attention block, also one whose heads have several widths (DeepSeek's): its own products are
    QK and PV."""
    return is_attention(module) or (hasattr(module, "layer_idx") and "Attention" in type(module).__name__)


def coverage_of(plan: InjectionPlan, model: nn.Module, longest: int = 1) -> Coverage:
    """Return the coverage of ``plan``: its share in a forward over one token, which no choice of items changes, and
    over ``longest`` tokens beside it.

    What was left out is told by module: fused and eager attention, and a model without weights, name their products
    differently, and are the same places.
    """
    names = [site.name for site in plan.sites]
    left_out = dict(sorted(_left_out(plan)))
    return Coverage(
        sites=len(names),
        share=product_share(plan, model, 1)["share"],
        left_out=left_out,
        digest=coverage_digest(names, left_out),
        named=names_left_out(plan.spec),
        longest=longest,
        share_longest=product_share(plan, model, longest)["share"],
    )


def names_left_out(spec: NoiseSpec) -> bool:
    """Return True where the specification itself narrows the places: by layers, include, exclude, modules, classes or a
    scope, or by operators without the linears. ``op:linear`` and all that holds it (the default, profile:matmul) names
    nothing that it leaves out."""
    places = (spec.layers, spec.include, spec.exclude, spec.modules, spec.classes, spec.scope)
    return any(places) or LINEAR not in spec.operators


def _left_out(plan: InjectionPlan) -> Iterator[tuple[str, str]]:
    """(module, reason) for every module that runs products of which some are not perturbed."""
    if plan.probe is None:
        return
    own = _own_parts(plan)
    reasons: dict[str, str] = {}
    for name, reason in (*plan.uncovered.items(), *plan.excluded.items()):  # asked for or not says more than reachable
        reasons[name.partition(":")[0]] = reason
    for module in plan.probe.flops:
        if own.get(module, 0.0) < 1 - 1e-9:
            yield module, reasons.get(module, "not asked for")


def _own_parts(plan: InjectionPlan) -> dict[str, float]:
    """Module -> the share of its own products that the plan perturbs (fraction, above 1 where sites overlap)."""
    own: dict[str, float] = {}
    if plan.probe is not None:
        for site in plan.sites:
            own[site.module] = own.get(site.module, 0.0) + _part(plan.probe, site)
    return own


def _part(probe: Probe, site: Site) -> float:
    """The share of its module's own products that ``site`` is: all, or one of those that the probe counted."""
    if site.op not in PRODUCTS:
        return 0.0
    if site.op in WHOLE and site.way != FUNCTION:
        return 1.0
    return 1.0 / max(1, sum(count for (module, _), count in probe.products.items() if module == site.module))
