"""What fake quantization leaves in high precision unless it is named: heads, embeddings, adapters. Routers are left
out of every specification, see :mod:`harness.noise.selection`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from harness.noise.kinds import ModelView
from harness.noise.paths import ADAPTERS, adapter_parts, matching
from harness.noise.sites import output_head
from harness.spec.noise import NoiseSpec

BY_DEFAULT = "kept in high precision by default"
_BASE = ADAPTERS[0]


def kept_precise(model: nn.Module, view: ModelView, spec: NoiseSpec) -> Mapping[str, str]:
    """Return path -> reason for every module of ``model`` that ``spec`` leaves alone though it could be quantized.

    Empty for other error models, and for results (``at:output``). A pattern of ``include:`` or ``module:`` that spells
    the module's own name asks for it; ``op:embedding`` asks for embeddings.
    """
    if spec.error.recipe is None or spec.at == "output":
        return {}
    head = output_head(model)
    found = {}
    for path, module in view.modules.items():
        kind = _kind(view, path, module is head and head is not None)
        asked = _named(spec, path) or (kind == "embedding" and "embedding" in spec.asked_ops)
        if kind is not None and not asked:
            found[path] = f"{kind}: {BY_DEFAULT}"
    return found


def _kind(view: ModelView, path: str, is_head: bool) -> str | None:
    if is_head:
        return "output head"
    if any(part != _BASE for part in adapter_parts(path)):
        return "adapter"
    if f"{path}.{_BASE}" in view.modules:
        return "wrapper of an adapter, whose base_layer is quantized"
    return "embedding" if view.kinds[path] == "embedding" else None


def _named(spec: NoiseSpec, path: str) -> bool:
    asking = (*matching(spec.include, path, whole=False), *matching(spec.modules, path, whole=True))
    own = set(path.split(".")) & {component for pattern in asking for component in pattern.split(".")}
    return path.rpartition(".")[2] in own or bool(own & set(ADAPTERS))
