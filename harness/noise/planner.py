"""Makes the plan of a specification in a model: finds the sites, and says why the rest is left alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise.audit.auditor import FUSED_ATTENTION, HAVE_PRODUCTS
from harness.noise.experts import meant_experts
from harness.noise.kinds import ModelView
from harness.noise.paths import adapter_parts
from harness.noise.plan import FunctionChoice, InjectionPlan, Probe
from harness.noise.probe import run_probe
from harness.noise.selection import ROUTER_REASON, left_out, select_modules
from harness.noise.sites import (
    ANGLE,
    ATTENTION,
    EXPERTS,
    FUNCTION,
    GROWING,
    LINEAR,
    MATMUL,
    MODULE,
    PV,
    QK,
    ROTARY,
    SDPA,
    SOFTMAX,
    WEIGHT,
    Site,
    find_sites,
    is_rotary,
    output_width,
    stacked_site,
)
from harness.noise.stacked import StackedLinear
from harness.spec.experts import REASON, UNREACHED
from harness.spec.noise import NoiseSpec

AUTO, FUNCTIONS_ONLY = "auto", "functions"
"""How operators are reached: by modules and interfaces where they have one, or all by the function mode."""

_ADAPTER_REASON = "part of an adapter that runs beside its linear: left alone"
_ROTARY_REASON = "rotary angle product: excluded by default, noise on it alone destroys a model (op:rotary reaches it)"
_STATE_REASON = "the recurrence of a state: its products stay clean"
_FUSED_REASON = "inside a fused attention kernel: use eager attention and profile:matmul"
_HIDDEN_BY_FUSION = (QK, PV, SOFTMAX)
_SPELLED = (LINEAR, MATMUL, "bmm", "einsum")


def build_plan(model: nn.Module | None, spec: NoiseSpec, way: str = AUTO) -> InjectionPlan:
    """Find the sites of ``spec`` in ``model`` and run one probe forward of three tokens for the rest.

    ``model=None`` plans for bare function calls outside any model. Raises :class:`NoiseSpecError` where an
    operator of the specification matches nothing, is hidden by a fused kernel, or is a module that does not run.
    """
    if model is None:
        return _without_model(spec)
    probe = run_probe(model)
    if not spec.asked_ops or spec.at != "output":
        plan = _plan_of_modules(model, spec, probe)
    else:
        plan = _plan_of_operators(model, spec, probe, way)
    return _with_experts(replace(plan, sites=tuple(_measured(site, probe) for site in plan.sites)), model)


def _with_experts(plan: InjectionPlan, model: nn.Module) -> InjectionPlan:
    """``plan`` that names the stacked experts which it should reach and does not, whether or not the probe knew their
    products."""
    meant = meant_experts(model, plan.spec)
    reached = {site.module for site in plan.sites}
    uncovered = dict(plan.uncovered)
    for path in (each for each in meant if each not in reached):
        names = [name for name in uncovered if name.partition(":")[0] == path]
        uncovered |= dict.fromkeys(names or [path], REASON)
    return replace(plan, uncovered=uncovered, experts=meant)


def _measured(site: Site, probe: Probe) -> Site:
    """``site`` as wide as the probe found it: classes do not say it of activations, blocks and norms of heads."""
    if site.field:
        return replace(site, per_token=probe.chosen.get(site.module, 1))
    if site.way != MODULE or site.point != "output":
        return site
    return replace(site, columns=probe.widths.get(site.module, site.columns))


def _without_model(spec: NoiseSpec) -> InjectionPlan:
    if not spec.asked_ops or spec.at != "output" or spec.layers or spec.include or spec.exclude:
        raise NoiseSpecError(f"{spec} without a model", "only op: and profile: have a meaning there", "give the model")
    return InjectionPlan(spec, (), {}, {}, FunctionChoice(spec, spec.operators))


def _plan_of_modules(model: nn.Module, spec: NoiseSpec, probe: Probe) -> InjectionPlan:
    """Modules by class, glob or scope, or operators' modules at their input or weight."""
    selection = select_modules(model, spec)
    view = ModelView.of(model)
    if spec.at == "weight":
        for path in selection.modules:
            module = view.modules[path]
            if not isinstance(module, StackedLinear) and module._parameters.get("weight") is None:
                raise NoiseSpecError(f"at:weight of {path}", "it has no weight of its own", f"exclude:{path}")
    every = _offered(model, probe)
    suffix = "" if spec.at == "output" else f":{spec.at}"
    head = {site.name for site in every if site.last_token_only}
    sites = tuple(
        _stacked(path, view, spec.at)
        if isinstance(view.modules[path], StackedLinear)
        else Site(
            f"{path}{suffix}",
            path,
            view.kinds.get(path) or type(view.modules[path]).__name__,
            _width(view.modules[path], spec.at),
            path in head,
            WEIGHT if spec.at == "weight" else MODULE,
            spec.at,
        )
        for path in selection.modules
    )
    _check_ran(probe, sites)
    taken = {site.module for site in sites}
    routing = tuple(_routing(view, probe))
    rest = [site for site in every if site.module not in taken]
    products, uncovered = _left_out(probe, rest, taken, view, spec, routing)
    return InjectionPlan(spec, sites, {**products, **_named(selection.excluded, view)}, uncovered, probe=probe)


def _stacked(path: str, view: ModelView, point: str = "output") -> Site:
    """The site of the stacked linear at ``path``: its module is the one around all experts."""
    owner, _, field = path.rpartition(".")
    return stacked_site(owner, view.modules[owner], field, point)


def _named(reasons: Mapping[str, str], view: ModelView) -> dict[str, str]:
    """``reasons`` by the names that sites have."""
    stacked = {path: isinstance(view.modules.get(path), StackedLinear) for path in reasons}
    return {_stacked(path, view).name if stacked[path] else path: why for path, why in reasons.items()}


def _offered(model: nn.Module, probe: Probe) -> tuple[Site, ...]:
    """The sites of ``model``, those of attention only in blocks that called the interface in ``probe``, as wide as it
    saw them: other blocks compute their products themselves, where the function mode finds them."""
    found = []
    for site in find_sites(model):
        if site.way != ATTENTION:
            found.append(site)
        elif site.module in probe.attentions:
            heads, width = probe.attentions[site.module]
            found.append(replace(site, columns=heads if site.op in GROWING else width))
    return tuple(found)


def _width(module: nn.Module, point: str) -> int:
    if point == "output":
        return output_width(module)
    width = getattr(module, "in_features", None) or getattr(module, "nx", None)
    return width if isinstance(width, int) else output_width(module)


def _plan_of_operators(model: nn.Module, spec: NoiseSpec, probe: Probe, way: str) -> InjectionPlan:
    every = _offered(model, probe)
    selection = select_modules(model, spec)
    chosen, reasons = _chosen(model, spec, every, selection.modules)
    spelled = {call.site.name for call in probe.calls}
    if way == FUNCTIONS_ONLY:
        chosen = tuple(site for site in chosen if site.way == ANGLE or site.name not in spelled)
    view = ModelView.of(model)
    routing = tuple(_routing(view, probe))
    aside = {router for router in view.routers.values() if not _asked(router, selection.modules)}
    functions = FunctionChoice(
        spec,
        spec.operators,
        frozenset((site.module, site.op) for site in chosen)
        | _inside_experts(every)
        | frozenset((path, op) for path in _recurrences(view) for op in _SPELLED)
        | frozenset((path, LINEAR) for router, path in routing if router in aside)
        # a block may turn what its router gave into shares itself
        | frozenset((router.rpartition(".")[0], SOFTMAX) for router in aside),
        frozenset(site.module for site in chosen if site.way == MODULE and site.name not in spelled)
        # the product inside a linear is that linear, however it is written
        | frozenset(s.module for s in every if s.way == MODULE and s.op in HAVE_PRODUCTS and s.name not in spelled)
        | frozenset(path for path, module in view.modules.items() if is_rotary(module)),
        frozenset(path for path in view.routers if not _asked(path, selection.modules)),
    )
    called = {call.site.name: call.site for call in probe.calls if functions.takes(call.site, call.path)}
    sites = (*chosen, *called.values())
    _check_found(model, spec, every, sites)
    _check_ran(probe, sites)
    names = {site.name for site in sites}
    products, uncovered = _left_out(probe, every, {site.module for site in sites}, view, spec, routing)
    reasons = {name: why for name, why in reasons.items() if name not in names}
    excluded = {**products, **reasons, **_named(selection.excluded, view)}
    excluded = {name: why for name, why in excluded.items() if name not in names and name not in uncovered}
    return InjectionPlan(spec, sites, excluded, uncovered, functions if called else None, probe)


def _chosen(
    model: nn.Module, spec: NoiseSpec, every: Sequence[Site], modules: Sequence[str]
) -> tuple[tuple[Site, ...], dict[str, str]]:
    """Sites of modules, attention and rotary embedding that are meant, and why the others of their kind are not."""
    fused = getattr(getattr(model, "config", None), "_attn_implementation", "eager") != "eager"
    kept = set(modules)
    chosen, reasons = [], {}
    for site in every:
        if site.op not in spec.operators:
            continue
        if site.way in (MODULE, EXPERTS):
            if (f"{site.module}.{site.field}" if site.field else site.module) in kept:
                chosen.append(site)
            continue
        reason = left_out(site.module, spec)
        if site.way == ATTENTION and site.op in _HIDDEN_BY_FUSION and fused:
            if spec.profile is None or site.op in (QK, PV):
                _refuse_fused(model, spec)
            reason = _FUSED_REASON
        if reason is None:
            if site.way == ATTENTION and site.op in _HIDDEN_BY_FUSION:
                _refuse_capped(model, site)
            chosen.append(site)
        else:
            reasons[site.name] = reason
    return tuple(chosen), reasons


def _inside_experts(every: Sequence[Site]) -> frozenset[tuple[str, str]]:
    """The products inside stacked experts: their own way has them, whatever spells them there."""
    return frozenset((site.module, op) for site in every if site.field for op in _SPELLED)


def _recurrences(view: ModelView) -> Iterator[str]:
    """The blocks that carry a state from token to token: how often they multiply, and by which operators, depends on
    the tokens of a forward."""
    return (path for path, module in view.modules.items() if "A_log" in module._parameters)


def _refuse_fused(model: nn.Module, spec: NoiseSpec) -> None:
    hidden = [op for op in _HIDDEN_BY_FUSION if op in spec.operators]
    used = getattr(getattr(model, "config", None), "_attn_implementation", None)
    raise NoiseSpecError(
        f"op:{','.join(hidden)} with attention {used!r}",
        "a fused attention kernel hides both products",
        "load the model with attention 'eager' (--attention eager)",
    )


def _refuse_capped(model: nn.Module, site: Site) -> None:
    """The exposed attention is plain softmax attention; another one would be replaced by it, not perturbed."""
    module = model.get_submodule(site.module)
    if getattr(module, "attn_logit_softcapping", None) is not None or hasattr(module, "sinks"):
        raise NoiseSpecError(
            f"op:{site.op} in {type(module).__name__}", "soft-capping and sinks are not supported", "use profile:linear"
        )


def _routing(view: ModelView, probe: Probe) -> Iterator[tuple[str, str]]:
    """(router, path) of the modules that multiply by the weight of a router inside them, as DeepSeek-V2's block: the
    router runs no product itself, the module around it one that is as wide as the router has experts."""
    ran = {module for module, _ in probe.products}
    for router in dict.fromkeys(view.routers.values()):
        weight = view.modules[router]._parameters.get("weight")
        above = router.rpartition(".")[0]
        if router in ran or weight is None or weight.ndim != 2:
            continue
        if any(
            call.site.module == above and call.site.op == LINEAR and call.site.columns == len(weight)
            for call in probe.calls
        ):
            yield router, above


def _asked(router: str, modules: Sequence[str]) -> bool:
    return any(path == router or path.startswith(f"{router}.") for path in modules)


def _check_found(model: nn.Module, spec: NoiseSpec, every: Sequence[Site], sites: Sequence[Site]) -> None:
    """Every operator that was named must have a site; a profile needs one at all."""
    found = {site.op for site in sites}
    missing = [op for op in spec.ops if not found & replace(spec, ops=(op,), profile=None).operators]
    if missing or not sites:
        present = sorted({site.op for site in every})
        raise NoiseSpecError(
            f"op:{missing[0] if missing else spec.profile} matches nothing in {type(model).__name__}",
            f"operators with sites here: {', '.join(present) or 'none'}",
            "choose one of those",
        )


def _check_ran(probe: Probe, sites: Sequence[Site]) -> None:
    """A site in a module that the model never calls would count nothing."""
    ran = {module for module, _ in probe.products} | {name for call in probe.calls for name in call.path}
    silent = [site.name for site in sites if site.way != FUNCTION and site.module not in ran]
    if silent:
        raise NoiseSpecError(f"{silent[0]} ({len(silent)} in all) did not run in a probe forward", "a site must run")


def _left_out(
    probe: Probe,
    every: Sequence[Site],
    taken: set[str],
    view: ModelView,
    spec: NoiseSpec,
    routing: Sequence[tuple[str, str]],
) -> tuple[dict[str, str], dict[str, str]]:
    """(excluded, uncovered) products with reasons, every one that ran in a module that is not in ``taken``, or whose
    operator has no site there. ``routing`` are the routers whose block multiplies by their weight, and the blocks."""
    excluded, uncovered = {}, {}
    blocks = {path for _, path in routing}
    by_module: dict[str, list[Site]] = {}
    for site in every:
        if site.op != SOFTMAX:  # not a product
            by_module.setdefault(site.module, []).append(site)
    for module, operator in probe.products:
        fused = FUSED_ATTENTION in operator
        for site in by_module.get(module, ()):
            if fused and site.op in _HIDDEN_BY_FUSION:
                uncovered[site.name] = _FUSED_REASON
            elif fused or site.op != SDPA:
                reason = _ROTARY_REASON if site.op == ROTARY else f"op:{site.op} was not asked for"
                excluded[site.name] = left_out(site.module, spec) or reason
        if module not in by_module and module not in taken:
            where = f"{module or 'model'}:{operator}"
            if module in blocks or any(module == router or module.startswith(f"{router}.") for router in view.routers):
                excluded[where] = ROUTER_REASON
            elif adapter_parts(module):
                excluded[where] = left_out(module, spec) or _ADAPTER_REASON
            else:
                uncovered[where] = left_out(module, spec) or UNREACHED
    for (
        path,
        block,
    ) in view.modules.items():  # a decode step multiplies there by other operators than the probe's prompt
        if "A_log" in block._parameters and path not in {name.partition(":")[0] for name in (*excluded, *uncovered)}:
            uncovered[f"{path}:state"] = left_out(path, spec) or _STATE_REASON
    return excluded, uncovered
