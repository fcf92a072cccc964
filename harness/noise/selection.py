"""Which modules of a model a noise specification means: decided by name, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise.conflicts import check_conflicts
from harness.noise.kinds import ModelView, class_names, is_mlp_block, is_router, names_router, operator_of
from harness.noise.paths import (
    enumerated,
    layer_of,
    layers_text,
    matches,
    matching,
    nearest_name,
    nearest_path,
    range_text,
)
from harness.noise.precision import BY_DEFAULT, kept_precise
from harness.noise.text_only import BESIDE_TEXT
from harness.spec.noise import NoiseSpec
from harness.spec.operators import OPS, SCOPES, selected

__all__ = [
    "ROUTER_REASON",
    "Selection",
    "is_mlp_block",
    "is_router",
    "layer_of",
    "left_out",
    "matches",
    "operator_of",
    "select_modules",
]

ROUTER_REASON = "router: excluded by default, noise on it changes which experts run"
_EXCLUDED = "exclude:"


@dataclass(frozen=True)
class Selection:
    """The modules of a specification, by path and in module order.

    ``excluded`` maps every other module that the place selector matches to the reason why it is left out, such as
    ``exclude:lm_head`` or ``layers:14-17`` (the restriction that it does not meet).
    """

    modules: tuple[str, ...]
    excluded: Mapping[str, str]


def select_modules(model: nn.Module, spec: NoiseSpec) -> Selection:
    """Return the modules of ``model`` that ``spec`` means; no weight is read, so the model may lie on the meta device.

    Operators without weights (products, activations) may be called as functions, which have no module: with them, an
    empty selection is an answer. Elsewhere it is refused.

    Raises :class:`NoiseSpecError`, naming the modules, where a pattern, class, operator, kind of a scope or range of
    layers matches nothing, where nothing is left, where a module is asked for and excluded, and for what
    :func:`harness.noise.conflicts.check_conflicts` lists.
    """
    view = ModelView.of(model)
    _check_names(view, spec)
    places = _places(view, spec)
    reasons = {path: _reason(view, spec, path) for path in places}
    _check_contradiction(spec, reasons)
    reasons |= {path: BESIDE_TEXT for path, reason in reasons.items() if reason is None and path in view.beside}
    if precise := kept_precise(model, view, spec):
        reasons = {path: reason or precise.get(path) for path, reason in reasons.items()}
    chosen = tuple(path for path, reason in reasons.items() if reason is None)
    in_functions = spec.at != "weight" and any(not OPS[op].fields for op in spec.asked_ops)
    if not chosen and not in_functions:
        raise _nothing_left(view, spec, reasons)
    check_conflicts(view, spec, chosen)
    excluded = {path: reason for path, reason in reasons.items() if reason is not None}
    return Selection(chosen, {**excluded, **{path: why for path, why in precise.items() if path not in reasons}})


def left_out(path: str, spec: NoiseSpec) -> str | None:
    """Return why ``layers``, ``include`` and ``exclude`` leave the module at ``path`` out, None where they keep it."""
    layer = layer_of(path)
    if spec.layers and (layer is None or not any(first <= layer <= last for first, last in spec.layers)):
        return f"layers:{range_text(spec.layers)}"
    if spec.include and not matching(spec.include, path, whole=False):
        return f"include:{','.join(spec.include)}"
    excluding = matching(spec.exclude, path, whole=False)
    return f"{_EXCLUDED}{excluding[0]}" if excluding else None


def _reason(view: ModelView, spec: NoiseSpec, path: str) -> str | None:
    reason = left_out(path, spec)
    router = view.routers.get(path)
    return ROUTER_REASON if reason is None and router and not _names(view, spec, path, router) else reason


def _names(view: ModelView, spec: NoiseSpec, path: str, router: str) -> bool:
    """True where ``spec`` names the router that ``path`` belongs to, and does not just sweep over it."""
    name = router.rpartition(".")[2]
    asking = (*matching(spec.include, path, whole=False), *matching(spec.modules, path, whole=True))
    if any(name in pattern.split(".") for pattern in asking):
        return True
    class_name = type(view.modules[router]).__name__
    return any(names_router(glob) and fnmatchcase(class_name, glob) for glob in spec.classes)


def _check_names(view: ModelView, spec: NoiseSpec) -> None:
    """Every name in ``spec`` must mean something in this model: a typo would leave out, or let in, without a word."""
    for word, patterns in (("module", spec.modules), ("include", spec.include), ("exclude", spec.exclude)):
        for pattern in patterns:
            if not any(matches(pattern, path, whole=word == "module") for path in view.modules):
                raise _no_match(f"{word}:{pattern}", view, nearest_path(pattern, view.modules))
    names = dict.fromkeys(name for module in view.modules.values() for name in class_names(type(module)))
    for glob in spec.classes:
        if not any(fnmatchcase(name, glob) for name in names):
            raise _no_match(f"class:{glob}", view, nearest_name(glob, names))
    layers = {layer for path in view.modules if (layer := layer_of(path)) is not None}
    for first, last in spec.layers:
        if not any(first <= layer <= last for layer in layers):
            raise _no_match(f"layers:{range_text([(first, last)])}", view, layers_text(view.modules))


def _no_match(value: str, view: ModelView, way_out: str) -> NoiseSpecError:
    return NoiseSpecError(
        f"{value} matches nothing in {view.name}", "every name in a specification must match a module", way_out
    )


def _places(view: ModelView, spec: NoiseSpec) -> tuple[str, ...]:
    """What the place selector alone matches."""
    if spec.modules:
        return tuple(path for path in view.modules if matching(spec.modules, path, whole=True))
    if spec.classes:
        return tuple(path for path, module in view.modules.items() if _of_class(spec.classes, module))
    kinds = SCOPES[spec.scope] if spec.scope else spec.asked_ops
    # a profile skips what a model does not have; what is named must be there, unless functions may compute it
    needed = kinds if spec.scope else tuple(op for op in spec.ops if OPS[op].fields)
    for kind in needed:
        if _meaning(kind).isdisjoint(view.kinds.values()):
            raise _no_match(f"{kind} of scope:{spec.scope}" if spec.scope else f"op:{kind}", view, _operators(view))
    wanted = frozenset(name for kind in kinds for name in _meaning(kind))
    return tuple(path for path, kind in view.kinds.items() if kind in wanted)


def _operators(view: ModelView) -> str:
    return f"operators of modules here: {', '.join(view.operators) or 'none'}"


def _meaning(kind: str) -> frozenset[str]:
    return selected((kind,)) if kind in OPS else frozenset({kind})


def _of_class(globs: tuple[str, ...], module: nn.Module) -> bool:
    return any(fnmatchcase(name, glob) for name in class_names(type(module)) for glob in globs)


def _check_contradiction(spec: NoiseSpec, reasons: Mapping[str, str | None]) -> None:
    """``include:model.layers.* exclude:down_proj`` narrows; an exclude that takes all of a pattern contradicts it."""
    for word, patterns in (("module", spec.modules), ("include", spec.include)):
        for pattern in patterns:
            meant = [path for path in reasons if matches(pattern, path, whole=word == "module")]
            in_reach = [path for path in meant if (reasons[path] or _EXCLUDED).startswith(_EXCLUDED)]
            gone = [path for path in in_reach if reasons[path] is not None]
            if pattern in spec.exclude or (gone and len(gone) == len(in_reach)):
                taking = dict.fromkeys(glob for path in gone for glob in matching(spec.exclude, path, whole=False))
                by = [pattern] if pattern in spec.exclude else list(taking)
                raise NoiseSpecError(
                    f"{enumerated(gone or meant) or pattern}: asked for and excluded",
                    f"{_EXCLUDED}{','.join(by)} takes away all that {word}:{pattern} asks for",
                    "drop one of the two",
                )


def _nothing_left(view: ModelView, spec: NoiseSpec, reasons: Mapping[str, str | None]) -> NoiseSpecError:
    if not reasons:
        return NoiseSpecError(f"{spec} matches no module of {view.name}", "noise needs a place", _operators(view))
    path, reason = next(iter(reasons.items()))
    if all(found == ROUTER_REASON for found in reasons.values()):
        way_out = f"name it: include:{view.routers[path].rpartition('.')[2]}"
    elif all((found or "").endswith(BY_DEFAULT) for found in reasons.values()):
        way_out = f"name it: include:{path.rpartition('.')[2]}"
    elif useless := [glob for glob in spec.include if not any(matches(glob, path, whole=False) for path in reasons)]:
        way_out = nearest_path(useless[0], reasons)
    elif spec.layers and all((found or "").startswith("layers:") for found in reasons.values()):
        way_out = layers_text(reasons)
    else:
        way_out = "drop or narrow what leaves them out"
    return NoiseSpecError(
        f"{spec} selects no module of {view.name}",
        f"{len(reasons)} modules match, but all are left out, the first is {path} ({reason})",
        way_out,
    )
