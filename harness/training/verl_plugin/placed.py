"""Sites of the outline at the modules of a wrapped model: peft and FSDP put components into the paths.

Names, which key the draws and stand in ledgers, stay those of the outline, so that an actor under an adapter draws as
its rollout does. vLLM perturbs the product of the weight and then adds the adapter's: so it is here, on ``base_layer``.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from harness.aqn.targets import canonical
from harness.exceptions import HarnessError
from harness.noise.plan import InjectionPlan


def placed(plan: InjectionPlan, model: nn.Module) -> InjectionPlan:
    """Return ``plan`` with every site at the module of ``model`` that computes it.

    Raises :class:`HarnessError` for a site that ``model`` does not have, and for calls of functions under an adapter,
    whose own calls could not be told from them.
    """
    known = dict(model.named_modules())
    if all(site.module in known for site in plan.sites):
        return plan
    if plan.functions is not None and plan.functions.operators:
        raise HarnessError(
            f"noise on {', '.join(sorted(plan.functions.operators))} under an adapter",
            "calls of functions inside the adapter could not be told from those of the model",
            "name operators that are modules, such as op:linear",
        )
    inner: dict[str, str] = {}
    for name in known:  # a wrapper comes before what it wraps
        inner[canonical(name)] = name
    missing = [site.module for site in plan.sites if site.module not in inner]
    if missing:
        raise HarnessError(f"site {missing[0]}", f"{type(model).__name__} has no such module", "correct the noise")
    return replace(plan, sites=tuple(replace(site, module=inner[site.module]) for site in plan.sites))
