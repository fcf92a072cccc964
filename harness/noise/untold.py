"""Sites whose rows belong to no item that could be told: an evaluation, which keys every draw by its item, has none of
them."""

from __future__ import annotations

from harness.exceptions import NoiseSpecError
from harness.noise.plan import InjectionPlan
from harness.noise.sites import EXPERTS, FUNCTION, WEIGHT, Site

RULE = "which of its rows belongs to which item cannot be told"


def untold_sites(plan: InjectionPlan) -> tuple[Site, ...]:
    """Return the sites of ``plan`` whose results fold items or tokens together, in its order: calls of functions by
    the shape that a probe saw, and what runs inside stacked experts beside their products, whose rows are sorted."""
    probe = plan.probe
    if probe is None:
        return ()
    folded = {call.site.name for call in probe.calls if not call.told}
    return tuple(
        site
        for site in plan.sites
        if (site.way == FUNCTION and site.name in folded)
        or (site.way not in (EXPERTS, WEIGHT) and any(_inside(site.module, experts) for experts in probe.chosen))
    )


def check_told(plan: InjectionPlan) -> None:
    """Raise :class:`NoiseSpecError` for a plan with :func:`untold_sites`, which would stop an evaluation at its first
    batch."""
    if words := untold_words(plan):
        raise NoiseSpecError(*words)


def untold_words(plan: InjectionPlan) -> tuple[str, str, str] | None:
    """Return what is wrong with a plan that has :func:`untold_sites`, the rule and a way out; None for others."""
    sites = untold_sites(plan)
    if not sites:
        return None
    more = f" ({len(sites)} sites of {plan.spec} in all)" if len(sites) > 1 else f" of {plan.spec}"
    names = [site.module.rpartition(".")[2] for site in sites]
    way_out = f"leave them out by name: exclude:{','.join(dict.fromkeys((*plan.spec.exclude, *names)))}"
    return f"{sites[0].name}{more}", RULE, way_out


def _inside(path: str, experts: str) -> bool:
    return path == experts or path.startswith(f"{experts}.")
