"""Which parameter of a model a stored tensor is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Match:
    """The parameter that a stored tensor is, or is a part of.

    ``whole``: it is all of it, in the same layout; a part (one expert of a fused parameter) is a matrix (out, in),
    unless ``transposed`` says that loading transposes it.
    """

    parameter: str
    whole: bool
    transposed: bool = False


def match_names(model: nn.Module, stored: Mapping[str, tuple[int, ...]]) -> dict[str, Match]:
    """Return stored name -> :class:`Match`, for every tensor of ``stored`` (name -> shape) that belongs to ``model``.

    A name is taken as it is, else as transformers renames it on loading (which also adds and drops the prefix of the
    bare model), else by the only parameter of the same shape whose name ends alike.
    """
    own = {name: tuple(value.shape) for name, value in model.named_parameters(remove_duplicate=False)}
    buffers = {name: tuple(value.shape) for name, value in model.named_buffers()}
    known = own | buffers
    rename = _renamer(model, known)
    found: dict[str, Match] = {}
    for name, shape in stored.items():
        if name in known:
            found[name] = Match(name, True)
            continue
        renamed, transposed = rename(name)
        if renamed in known:
            found[name] = Match(renamed, known[renamed] == shape, transposed)
            continue
        alike = [other for other in known if known[other] == shape and _ends_alike(name, other)]
        if len(alike) == 1:
            found[name] = Match(alike[0], True)
    return found


def _ends_alike(one: str, other: str) -> bool:
    return one.endswith(f".{other}") or other.endswith(f".{one}")


def _renamer(model: Any, known: Mapping[str, Any]) -> Any:
    """A function from a stored name to (name in the model, whether loading transposes it)."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import Transpose, WeightConverter, WeightRenaming, rename_source_key

        transforms = get_model_conversion_mapping(model)
    except Exception:  # an internal interface: without it, names are compared by their ends
        return lambda name: (name, False)
    renamings = [each for each in transforms if isinstance(each, WeightRenaming)]
    converters = [each for each in transforms if isinstance(each, WeightConverter)]
    prefix = getattr(model, "base_model_prefix", "") or None

    def rename(name: str) -> tuple[str, bool]:
        renamed, pattern = rename_source_key(name, renamings, converters, prefix, dict(known))
        operations = [
            operation
            for converter in converters
            if pattern is not None and pattern in converter.source_patterns
            for operation in converter.operations
        ]
        return renamed, any(isinstance(operation, Transpose) for operation in operations)

    return rename
