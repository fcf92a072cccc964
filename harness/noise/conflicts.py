"""Selections that would perturb something twice, or something that nobody asked for: each is refused by name."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise.kinds import ModelView, class_names
from harness.noise.paths import ADAPTERS, adapter_parts, enumerated, matching
from harness.spec.noise import NoiseSpec
from harness.spec.operators import OPS

_WEIGHTS = tuple(dict.fromkeys(field for operator in OPS.values() for field in operator.fields))


def check_conflicts(view: ModelView, spec: NoiseSpec, chosen: tuple[str, ...]) -> None:
    """Refuse a selection of the paths ``chosen`` that is ambiguous.

    Raises :class:`NoiseSpecError` for parts of an adapter that were not asked for, a module that two patterns or two
    paths mean, a module inside another one of the same operator, and (noise ``at:weight``) a weight that a second
    module uses: fake quantization of a tied output head gives the head a copy, and the embedding keeps its own.
    Adapters come first: their wrappers would be refused as nested too, with the less useful way out.
    """
    _check_adapters(spec, chosen)
    _check_tiles(spec)
    _check_patterns(view, spec, chosen)
    _check_shared(view, chosen)
    _check_nested(view, chosen)
    if spec.at == "weight" and spec.error.recipe is None:
        _check_tied(view, chosen)


def _check_tiles(spec: NoiseSpec) -> None:
    recipe = spec.error.recipe
    if recipe is not None and recipe.format.rows > 1 and spec.at != "weight":
        raise NoiseSpecError(
            f"{spec.error} at:{spec.at}",
            "its tiles span several rows, and which rows share a tile depends on the batch",
            "use it at:weight, or a format without tiles",
        )


def _check_adapters(spec: NoiseSpec, chosen: tuple[str, ...]) -> None:
    found: dict[str, list[str]] = {}
    for path in chosen:
        parts = adapter_parts(path)
        asking = (*matching(spec.include, path, whole=False), *matching(spec.modules, path, whole=True))
        literal = {component for pattern in asking for component in pattern.split(".")}
        based = spec.error.recipe is not None and set(parts) == {ADAPTERS[0]}  # quantized under its adapter
        if parts and literal.isdisjoint(parts) and not based:
            found.setdefault(parts[0], []).append(path)
    if not found:
        return
    parts = tuple(part for part in ADAPTERS if part in found)
    one_each = [found[part][0] for part in parts]
    rest = [path for part in parts for path in found[part][1:]]
    base = "base_layer" if "base_layer" in parts else parts[0]
    raise NoiseSpecError(
        f"{enumerated(one_each + rest)}: selected, but not asked for",
        f"parts of an adapter ({', '.join(parts)}) are perturbed only where a pattern names them",
        f"write exclude:{','.join(parts)} for the modules around them, or include:{base} for these",
    )


def _check_patterns(view: ModelView, spec: NoiseSpec, chosen: tuple[str, ...]) -> None:
    for path in chosen:
        names = class_names(type(view.modules[path]))
        by_class = tuple(glob for glob in spec.classes if any(fnmatchcase(name, glob) for name in names))
        for word, found in (("module", matching(spec.modules, path, whole=True)), ("class", by_class)):
            if len(found) > 1:
                raise NoiseSpecError(
                    f"{path} is matched twice, by {word}:{found[0]} and {word}:{found[1]}",
                    "a module is perturbed once",
                    f"drop or narrow one of the two, or write exclude:{path}",
                )


def _check_shared(view: ModelView, chosen: tuple[str, ...]) -> None:
    first: dict[int, str] = {}
    for path in chosen:
        other = first.setdefault(id(view.modules[path]), path)
        if other != path:
            raise NoiseSpecError(
                f"{other} and {path} are the same module", "a module is perturbed once", f"write exclude:{path}"
            )


def _check_nested(view: ModelView, chosen: tuple[str, ...]) -> None:
    known = set(chosen)
    for path in chosen:
        parts = path.split(".")
        for outer in (".".join(parts[:length]) for length in range(1, len(parts))):
            kind = view.kinds[path]
            if outer in known and kind is not None and view.kinds[outer] == kind:
                raise NoiseSpecError(
                    f"{path} lies inside {outer} and both are selected as {kind}",
                    "one product is perturbed once",
                    f"write exclude:{path}, or name one of the two with module:",
                )


def _check_tied(view: ModelView, chosen: tuple[str, ...]) -> None:
    owners: dict[int, list[str]] = {}
    for path, module in view.modules.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(path)
    for path in chosen:
        module = view.modules[path]
        for field in _WEIGHTS:
            weight = getattr(module, field, None)
            if not isinstance(weight, nn.Parameter):
                continue
            # what a wrapper shows of the module inside it, and the same module by another path, is no second use
            others = [
                owner
                for owner in owners.get(id(weight), ())
                if view.modules[owner] is not module and not f"{owner}.".startswith(f"{path}.")
            ]
            if others:
                raise NoiseSpecError(
                    f"at:weight on {path}, whose {field} is also that of {enumerated(others)}",
                    "a tied weight would be perturbed in both",
                    f"write exclude:{path.rpartition('.')[2]}, or use at:output",
                )
