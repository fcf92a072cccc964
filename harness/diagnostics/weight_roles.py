"""Which parameters of a model are weights of linears: read from the modules, before any weight is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from harness.diagnostics.scan_result import OUTSIDE
from harness.exceptions import HarnessError
from harness.noise.kinds import ModelView
from harness.noise.paths import CONTAINERS, adapter_parts, layer_of, matches, nearest_path
from harness.noise.text_only import BESIDE_TEXT

LINEARS = ("linear", "conv1d")
NOT_LINEAR = "not the weight of a linear"
_HEADS = ("lm_head", "embed_out")
_DOWN = ("down", "w2", "output_linear")


@dataclass(frozen=True)
class Place:
    """One parameter: the path of its module and its name in it, the block it lies in, and why it is left out, if it is.

    ``transposed``: stored (in, out), so that blocks run along the last but one dimension. ``hooked``: the module's
    input is what this weight multiplies. ``meant`` names the place that was asked for where this one is brought in only
    because both are one tied parameter.
    """

    name: str
    module: str
    field: str
    group: str
    transposed: bool
    hooked: bool
    reason: str | None
    meant: str = ""


def find_places(model: nn.Module, include: Sequence[str] = ()) -> Mapping[str, Place]:
    """Return every parameter of ``model`` by name; a tied one has all its names, and is brought in by any of them.

    ``include`` are globs of module or parameter paths that bring in what is left out by default. Raises
    :class:`HarnessError` for one that matches nothing. Works on the meta device.
    """
    view = ModelView.of(model)
    heads = [id(head) for head in [_output_head(model)] if head is not None]
    modules = {"": model, **view.modules}
    found: dict[str, Place] = {}
    owners: dict[int, list[str]] = {}
    for path, module in modules.items():
        for field, parameter in module.named_parameters(recurse=False):
            name = f"{path}.{field}" if path else field
            owners.setdefault(id(parameter), []).append(name)
            found[name] = _place(view, heads, path, module, (field, parameter))
    asked = [name for name in found if any(matches(glob, name, whole=False) for glob in include)]
    for name in asked:
        for other in owners[id(modules[found[name].module]._parameters[found[name].field])]:
            if found[other].reason is not None:
                found[other] = replace(found[other], reason=None, meant="" if other in asked else name)
    for glob in include:
        if not any(matches(glob, name, whole=False) for name in found):
            raise HarnessError(
                f"--include {glob}", f"it matches nothing in {view.name}", nearest_path(glob, view.modules)
            )
    return found


def group_of(path: str) -> str:
    """Return the path up to the number of the block: ``model.layers.3``, ``encoder.block.0``; else :data:`OUTSIDE`."""
    if layer_of(path) is None:
        return OUTSIDE
    parts = path.split(".")
    for index in range(1, len(parts)):
        if parts[index - 1] in CONTAINERS and parts[index].isdecimal():
            return ".".join(parts[: index + 1])
    return OUTSIDE


def matrices(tensor: Tensor, transposed: bool) -> list[Tensor]:
    """Return ``tensor`` as matrices (rows, contraction dimension), views where possible: one for each expert of three
    dimensions, each with tensor-wide scales of its own, as engines serve them; more are flattened behind the first."""
    if tensor.ndim <= 1:
        return [tensor.reshape(1, -1)]
    if tensor.ndim > 3:
        return [tensor.reshape(tensor.shape[0], -1)]
    each = [tensor] if tensor.ndim == 2 else list(tensor.unbind(0))
    return [matrix.t() if transposed else matrix for matrix in each]


def _output_head(model: Any) -> nn.Module | None:
    try:
        head: nn.Module | None = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):  # encoders have none
        return None
    return head


def _place(
    view: ModelView, heads: Sequence[int], path: str, module: nn.Module, parameter: tuple[str, nn.Parameter]
) -> Place:
    field, weight = parameter
    kind = view.kinds.get(path)
    experts = weight.ndim == 3 and (path.endswith("experts") or "Experts" in type(module).__name__)
    linear = kind in LINEARS and field == "weight"
    reason = _reason(view, path, module, parameter)
    if reason is None and (id(module) in heads or path.rpartition(".")[2] in _HEADS):
        reason = "output head"
    if reason is None and not (linear or experts):
        reason = f"{NOT_LINEAR} ({type(module).__name__})"
    transposed = kind == "conv1d" if linear else experts and _experts_transposed(module, field, weight)
    name = f"{path}.{field}" if path else field
    return Place(name, path, field, group_of(path), transposed, linear, reason)


def _reason(view: ModelView, path: str, module: nn.Module, parameter: tuple[str, nn.Parameter]) -> str | None:
    field, weight = parameter
    kind, name = view.kinds.get(path), type(module).__name__
    if adapter_parts(path) and not path.endswith("base_layer"):
        return "LoRA adapter"
    if field.endswith("bias"):
        return "bias"
    if path in view.beside or path in view.routers:
        return BESIDE_TEXT if path in view.beside else "router: it chooses the experts"
    if kind == "embedding" or "Embedding" in name:
        return "embedding"
    if kind in ("layer_norm", "rms_norm") or ("Norm" in name and weight.ndim == 1):
        return "norm"
    return None


def _experts_transposed(module: Any, field: str, weight: Tensor) -> bool:
    """True where fused experts are stored (experts, in, out)."""
    told = getattr(module, "is_transposed", None)
    if isinstance(told, bool):
        return told
    hidden = getattr(module, "hidden_size", None) or getattr(getattr(module, "config", None), "hidden_size", None)
    rows, columns = weight.shape[1:]
    if hidden is None or rows == columns:
        return False
    # a product down to the hidden size has it as its output, the others as their input
    return bool((columns if any(word in field for word in _DOWN) else rows) == hidden)
