"""How much of a model's matrix products lies in the sites of a plan, by floating-point operations."""

from __future__ import annotations

from typing import Any

from torch import nn

from harness.noise.plan import InjectionPlan, Probe
from harness.noise.sites import CONV1D, FUNCTION, LINEAR, MATMUL, MODULE, PV, QK, ROTARY, SDPA, Site, is_attention

WHOLE = (LINEAR, CONV1D, SDPA, ROTARY)
"""Operators that are all the products of their module."""

PRODUCTS = (*WHOLE, QK, PV, MATMUL, "bmm", "einsum")


def product_share(plan: InjectionPlan, model: nn.Module, tokens: int) -> dict[str, Any]:
    """FLOPs of all products in a forward over ``tokens`` tokens, those whose own result, input or weight is perturbed,
    and those inside larger modules of which only the result is (fractions of all in ``share`` and ``share_inside``).

    Scaled from the probe: attention by the square of the tokens, all else by the tokens.
    """
    probe = plan.probe
    if probe is None:
        return {"flops": 0, "perturbed": 0, "inside": 0, "share": 0.0, "share_inside": 0.0}
    modules = dict(model.named_modules())
    own: dict[str, float] = {}
    for site in plan.sites:
        own[site.module] = own.get(site.module, 0.0) + _part(probe, site)
    blocks = [site.module for site in plan.sites if site.way == MODULE and site.op not in PRODUCTS]
    total = perturbed = inside = 0.0
    for module, flops in probe.flops.items():
        growth = tokens / probe.tokens
        scaled = flops * (growth**2 if is_attention(modules[module]) else growth)
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


def _part(probe: Probe, site: Site) -> float:
    """The share of its module's own products that ``site`` is: all, or one of those that the probe counted."""
    if site.op not in PRODUCTS:
        return 0.0
    if site.op in WHOLE and site.way != FUNCTION:
        return 1.0
    return 1.0 / max(1, sum(count for (module, _), count in probe.products.items() if module == site.module))
