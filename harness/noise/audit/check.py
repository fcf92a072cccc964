"""Holds what the independent auditor saw against the plan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.noise.audit.auditor import HAVE_PRODUCTS, Auditor
from harness.noise.audit.draw_checks import check_draws
from harness.noise.plan import InjectionPlan
from harness.noise.sites import ATTENTION, BY_SCORES, EXPERTS, MATMUL, MODULE, PV, QK, ROTARY, SDPA, SOFTMAX, Site
from harness.spec.error_base import RELATIVE
from harness.spec.errors import ErrorModel
from harness.stats.rates import improbable
from harness.thresholds import effect_bounds

_PRODUCTS = (*HAVE_PRODUCTS, MATMUL, "bmm", "einsum", QK, PV, SDPA, ROTARY)

LEAST_ENERGY, MOST_ENERGY = 1.1754943508222875e-38, 3.4028234663852886e38
"""The smallest normal and the largest float32, as which energies are booked."""

BOOKED_WITHIN = 0.01
"""How far the error energy that came out may lie from the one in the ledger (fraction): both are float32 sums."""


@dataclass(frozen=True)
class Booked:
    """What the ledger counted at a site in audited forwards: elements changed, not finite, and error energy."""

    changed: int = 0
    nonfinite: int = 0
    energy: float = 0.0


def check_audit(
    auditor: Auditor, plan: InjectionPlan, scale: float, error: ErrorModel | None = None
) -> tuple[str, ...]:
    """Return what the independent count of some forwards says against the plan; empty where all agrees.

    Every site must have run, and every product must belong to a site or be named in the plan; what each site lets
    out must be its own result where it is not perturbed (or ``scale`` is 0). Where it is, it must show what ``error``
    (default: the plan's) leads to expect at ``scale``: a relative error or an absolute one (RMS, 0.9 to 1.15 of it) or
    a share of changed elements; every element must follow the formula of an error model that does not draw, where the
    auditor was given it; under one that draws for each element, rows with the same result must get different noise (but
    for ``key:shared``, whose items share it); and whatever the model, some site must change something, unless so
    small a share of elements is to change that none may be chance. That alone is asked of a softmax that is
    renormalised, because how much noise that leaves depends on the data, and of scores on which other operators act.
    Where the noise is limited to some tokens, the rows of all others must be as they were, and a site of which no
    selected row was seen need show no noise. The rotary product and products that are called as functions are audited
    by presence alone, other calls of functions by the ledger only.
    """
    model = error or plan.spec.error
    shared = plan.spec.key == "shared"
    problems = _gaps(auditor, plan) + _unknown(auditor, plan)
    perturbed = {site.name for site in plan.sites} if scale else set()
    compared = [site for site in auditor.errors if site in perturbed and auditor.selected.shown(site)]
    strays = {site: count for site, count in auditor.selected.strays.items() if count}
    if strays:
        site, count = next(iter(strays.items()))
        more = f", and {len(strays) - 1} more sites" if len(strays) > 1 else ""
        problems.append(f"audit: {site} changed {count} elements of tokens that the noise leaves alone{more}")
    scored = {
        f"{site.module}:{QK}" for site in plan.sites if site.arranged == BY_SCORES
    }  # other operators follow on the product
    for site, (_, _, changed) in auditor.errors.items():
        if site not in perturbed | scored and changed:
            problems.append(f"audit: {site} gave {int(changed)} elements that differ from its own product")
    soft = {site.name for site in plan.sites if site.op == SOFTMAX and plan.spec.softmax == "renormalised"}
    effects = [
        f"audit: {site} {words}"
        for site in compared
        if site not in soft | scored
        for words in _effect(auditor, site, model.at(scale), shared)
    ]
    silent = compared and not effects and not any(auditor.errors[site][2] for site in compared)
    if silent and not _may_be_silent(auditor, compared, None if shared else model.expected_share(scale)):
        effects = [f"audit: no site gave anything but its own result under {model.name}"]
    repeats = [site for site in compared if auditor.repeats[site]]
    if repeats and plan.spec.key == "item" and model.draws_per_row:
        more = f", and {len(repeats) - 1} more sites" if len(repeats) > 1 else ""
        effects.append(f"audit: {repeats[0]} gave {auditor.repeats[repeats[0]]} rows the noise of another row{more}")
    if auditor.draws is not None:
        effects += [f"audit: {words}" for words in check_draws(auditor.draws)]
    return (*problems, *effects)


def check_booked(auditor: Auditor, booked: Mapping[str, Booked], error: ErrorModel) -> tuple[str, ...]:
    """Return where the ledger's own count of the audited forwards, ``booked`` by site, is not what came out of them
    under ``error``.

    Elements whose error is not finite are compared by their number, the energy is that of all others. Relative Gaussian
    noise has no such elements: its ledger does not part them, and a run that has some is INVALID for that alone.
    """
    wrong = []
    for site, count in booked.items():
        if site not in auditor.by_rows or (count.nonfinite and error.gaussian == RELATIVE):
            continue
        energy, changed, odd = auditor.parts[site]
        if count.changed != changed:
            wrong.append(f"{site} booked {count.changed} changed elements, {changed:.0f} came out changed")
        elif count.nonfinite != odd:
            wrong.append(f"{site} booked {count.nonfinite} elements that are not finite, {odd:.0f} came out")
        elif not _alike(count.energy, energy, changed):
            wrong.append(f"{site} booked an error energy of {count.energy:.4g}, {energy:.4g} came out")
    return (f"audit: {wrong[0]}, and {len(wrong) - 1} more sites",) if wrong else ()


def _effect(auditor: Auditor, site: str, model: ErrorModel, shared: bool) -> list[str]:
    """What is wrong with the noise that ``site`` gave. Where items share their draws, a count of few is no share."""
    squared, nonzero, _ = auditor.errors[site]
    energy, apart, elements = auditor.sizes[site]
    wrong = []
    level = model.level or 0.0
    relative, absolute = model.expected_relative_rms(level), model.expected_rms(level)
    share = None if shared else model.expected_share(level)
    if relative is not None and not _within(_root(squared, nonzero), relative, nonzero):
        wrong.append(f"has relative error {_root(squared, nonzero):.3g}, {relative:g} was asked for")
    if absolute is not None and not _within(_root(energy, elements), absolute, elements):
        wrong.append(f"has error {_root(energy, elements):.3g}, {absolute:g} was asked for")
    if (
        share is not None
        and not _within(apart / max(elements, 1), share, elements)
        and improbable(apart, elements, share)
    ):
        wrong.append(f"changed {apart / max(elements, 1):.3g} of its elements, {share:g} was asked for")
    if auditor.departures[site]:
        wrong.append(f"gave {auditor.departures[site]} elements that {model} does not give")
    return wrong


def _alike(booked: float, energy: float, changed: float) -> bool:
    """A flipped bit of an exponent makes energies that no float32 holds, as which they are booked: too large ones are
    infinite, and each of the ``changed`` elements may have one that is too small."""
    if booked == math.inf:
        return energy >= (1 - BOOKED_WITHIN) * MOST_ENERGY
    return math.isclose(booked, energy, rel_tol=BOOKED_WITHIN, abs_tol=changed * LEAST_ENERGY)


def _may_be_silent(auditor: Auditor, sites: Sequence[str], share: float | None) -> bool:
    """Whether no element of ``sites`` may have changed by chance, each having changed with probability ``share``."""
    if share is None:
        return False
    return not improbable(0, sum(auditor.sizes[site][2] for site in sites), share)


def _root(squares: float, count: float) -> float:
    return (squares / count) ** 0.5 if count else 0.0


def _within(achieved: float, asked: float, count: float) -> bool:
    low, high = effect_bounds(int(count))
    return low * asked <= achieved <= high * asked


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
        elif site.way in (MODULE, ATTENTION, EXPERTS) and site.name not in auditor.errors:
            problems.append(f"audit: what {site.name} gave could not be compared with its own result")
    return problems


def _is_product(site: Site) -> bool:
    """A module that multiplies exactly once whenever it runs."""
    return site.way == MODULE and site.op in HAVE_PRODUCTS
