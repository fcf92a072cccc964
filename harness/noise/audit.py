"""Holds what the independent auditor saw against the plan."""

from __future__ import annotations

from collections import Counter

from harness.noise.auditor import HAVE_PRODUCTS, Auditor
from harness.noise.plan import InjectionPlan
from harness.noise.sites import ATTENTION, MATMUL, MODULE, PV, QK, ROTARY, SDPA, Site
from harness.spec.errors import ErrorModel
from harness.thresholds import effect_bounds

_PRODUCTS = (*HAVE_PRODUCTS, MATMUL, "bmm", "einsum", QK, PV, SDPA, ROTARY)


def check_audit(
    auditor: Auditor, plan: InjectionPlan, scale: float, error: ErrorModel | None = None
) -> tuple[str, ...]:
    """What the independent count of some forwards says against the plan; empty where all agrees.

    Every site must have run, and every product must belong to a site or be named in the plan; what each site lets
    out must be its own result where it is not perturbed (or ``scale`` is 0). Where it is, the relative error must be
    0.9 to 1.15 of what ``error`` (default: the plan's) leads to expect at ``scale``; for error models whose relative
    error depends on the data, some site must let out another result than its own. The rotary product and products that
    are called as functions are audited by presence alone; other calls of functions by the ledger only.
    """
    model = error or plan.spec.error
    problems = _gaps(auditor, plan) + _unknown(auditor, plan)
    perturbed = {site.name for site in plan.sites} if scale else set()
    expected = model.expected_relative_rms(scale)
    for site, (squared, nonzero, changed) in auditor.errors.items():
        if site not in perturbed:
            if changed:
                problems.append(f"audit: {site} let out {int(changed)} elements that differ from its own product")
        elif expected is not None:
            achieved = (squared / nonzero) ** 0.5 if nonzero else 0.0
            low, high = effect_bounds(int(nonzero))
            if not low * expected <= achieved <= high * expected:
                problems.append(f"audit: {site} has relative error {achieved:.3g}, {expected:g} was asked for")
    if perturbed and expected is None and not any(auditor.errors[site][2] for site in perturbed & set(auditor.errors)):
        problems.append(f"audit: no site let out anything but its own result under {model.name}")
    return tuple(problems)


def _unknown(auditor: Auditor, plan: InjectionPlan) -> list[str]:
    known = {site.module for site in plan.sites}
    named = {name.partition(":")[0] for name in (*plan.excluded, *plan.uncovered)}
    return [
        f"audit: {operator} ran in {module or 'the model'}, which the plan does not name"
        for module, operator in auditor.products
        if module not in known and (module or "model") not in named
    ]


def _gaps(auditor: Auditor, plan: InjectionPlan) -> list[str]:
    """Sites whose product the auditor did not see, or not in every audited forward."""
    calls: Counter[str] = Counter()
    for (module, _), count in auditor.products.items():
        calls[module] += count
    most = max((calls.get(site.module, 0) for site in plan.sites if _is_product(site)), default=0)
    problems = []
    for site in plan.sites:
        ran = calls.get(site.module, 0)
        if _is_product(site) and ran < most:
            words = f"ran {ran} of {most} times" if ran else "no product ran"
            problems.append(f"audit: {site.name}: {words}")
        elif site.op in _PRODUCTS and not ran:
            problems.append(f"audit: {site.name}: no product ran")
        elif site.way in (MODULE, ATTENTION) and site.name not in auditor.errors:
            problems.append(f"audit: what {site.name} let out could not be compared with its own result")
    return problems


def _is_product(site: Site) -> bool:
    """A module that multiplies exactly once whenever it runs."""
    return site.way == MODULE and site.op in HAVE_PRODUCTS
