"""What a specification will perturb in a model, what it will not, and how often: decided before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise.auditor import FUSED_ATTENTION, Auditor
from harness.noise.sites import LINEAR, PV, QK, ROTARY, Site, find_sites
from harness.spec import NoiseSpec
from harness.thresholds import effect_bounds

_ROTARY_REASON = "rotary angle product: excluded by default, noise on it alone destroys a model (op:rotary reaches it)"
_FUSED_REASON = "inside a fused attention kernel: use eager attention and profile:matmul"
_UNKNOWN_REASON = "no site reaches this product"
_PROBE_TOKENS = 3


@dataclass(frozen=True)
class InjectionPlan:
    """The sites a specification perturbs and every product it leaves alone.

    ``excluded`` and ``uncovered`` map a product's name to the reason: excluded products could be asked for,
    uncovered ones cannot be reached in this model as it is loaded.
    """

    spec: NoiseSpec
    sites: tuple[Site, ...]
    excluded: Mapping[str, str]
    uncovered: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for manifests and reports."""
        return {
            "noise": str(self.spec),
            "sites": [
                {
                    "name": site.name,
                    "op": site.op,
                    "columns": site.columns,
                    "last_token_only": site.last_token_only,
                    "grows": site.grows,
                }
                for site in self.sites
            ],
            "excluded": dict(self.excluded),
            "uncovered": dict(self.uncovered),
        }


def build_plan(model: nn.Module, spec: NoiseSpec) -> InjectionPlan:
    """Finds the sites of ``spec`` in ``model`` and audits one probe forward of three tokens for the rest.

    Raises :class:`NoiseSpecError` where an operator of the specification matches nothing, is hidden by a fused
    kernel, or is a module that does not run.
    """
    every = find_sites(model)
    chosen = tuple(site for site in every if site.op in spec.ops)
    _check_attention(model, spec)
    for op in spec.ops:
        if not any(site.op == op for site in chosen):
            present = sorted({site.op for site in every})
            raise NoiseSpecError(
                f"op:{op} matches nothing in {type(model).__name__}",
                f"operators with sites here: {', '.join(present) or 'none'}",
                "choose one of those",
            )
    products = _probe(model)
    silent = [site.name for site in chosen if not any(module == site.module for module, _ in products)]
    if silent:
        raise NoiseSpecError(f"{silent[0]} ({len(silent)} in all) did not run in a probe forward", "a site must run")
    excluded, uncovered = _left_out(products, every, chosen)
    return InjectionPlan(spec, chosen, excluded, uncovered)


def _check_attention(model: nn.Module, spec: NoiseSpec) -> None:
    hidden = [op for op in spec.ops if op in (QK, PV)]
    used = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if hidden and used != "eager":
        raise NoiseSpecError(
            f"op:{','.join(hidden)} with attention {used!r}",
            "a fused attention kernel hides both products",
            "load the model with attention 'eager' (--attention eager)",
        )


def _probe(model: nn.Module) -> Mapping[tuple[str, str], int]:
    ids = torch.arange(_PROBE_TOKENS, device=next(model.parameters()).device)[None]
    with torch.no_grad(), Auditor(model) as auditor:
        model(input_ids=ids, use_cache=False)
    return auditor.products


def _left_out(
    products: Mapping[tuple[str, str], int], every: tuple[Site, ...], chosen: tuple[Site, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """(excluded, uncovered) products with reasons, every one that ran and is not perturbed."""
    excluded, uncovered = {}, {}
    by_module: dict[str, list[Site]] = {}
    for site in every:
        by_module.setdefault(site.module, []).append(site)
    for module, operator in products:
        sites = by_module.get(module, [])
        fused = FUSED_ATTENTION in operator
        for site in sites:
            if fused:
                uncovered[site.name] = _FUSED_REASON
            elif site not in chosen:
                reason = _ROTARY_REASON if site.op == ROTARY else f"op:{site.op} was not asked for"
                excluded[site.name] = reason
        if not sites:
            uncovered[f"{module or 'model'}:{operator}"] = _UNKNOWN_REASON
    return excluded, uncovered


def _audit_gaps(auditor: Auditor, plan: InjectionPlan) -> list[str]:
    """Sites whose product the auditor did not see, or not in every audited forward."""
    calls: Counter[str] = Counter()
    for (module, _), count in auditor.products.items():
        calls[module] += count
    linears = [site for site in plan.sites if site.op == LINEAR]
    most = max((calls.get(site.module, 0) for site in linears), default=0)
    problems = [f"audit: no product of {site.name} ran" for site in plan.sites if not calls.get(site.module)]
    for site in plan.sites:
        if site.op == LINEAR and 0 < calls.get(site.module, 0) < most:
            problems.append(f"audit: {site.name} ran {calls[site.module]} of {most} times")
        elif site.op != ROTARY and site.module in calls and site.name not in auditor.errors:
            problems.append(f"audit: what {site.name} let out could not be compared with its product")
    return problems


def check_audit(auditor: Auditor, plan: InjectionPlan, scale: float) -> tuple[str, ...]:
    """What the independent count of some forwards says against the plan; empty where all agrees.

    Every site must have run, and every product must belong to a site or be named in the plan; what each site lets
    out must be its own product where it is not perturbed (or ``scale`` is 0), and have a relative error of 0.9 to
    1.15 of ``scale`` where it is. The rotary product is audited by its presence alone.
    """
    problems = _audit_gaps(auditor, plan)
    known = {site.module for site in plan.sites}
    named = {name.partition(":")[0] for name in (*plan.excluded, *plan.uncovered)}
    for module, operator in auditor.products:
        if module not in known and module not in named and f"{module or 'model'}" not in named:
            problems.append(f"audit: {operator} ran in {module or 'the model'}, which the plan does not name")
    perturbed = {site.name for site in plan.sites} if scale else set()
    for site, (squared, nonzero, changed) in auditor.errors.items():
        if site not in perturbed:
            if changed:
                problems.append(f"audit: {site} let out {int(changed)} elements that differ from its own product")
            continue
        achieved = (squared / nonzero) ** 0.5 if nonzero else 0.0
        low, high = effect_bounds(int(nonzero))
        if not low * scale <= achieved <= high * scale:
            problems.append(f"audit: {site} has relative error {achieved:.3g}, {scale:g} was asked for")
    return tuple(problems)
