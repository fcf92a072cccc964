"""The model of a checkpoint without its weights, and which of its parameters a stored tensor is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from harness.exceptions import CheckpointError
from harness.noise.meta import load_config

_LONGEST_REASON = 160


def build_skeleton(path: Path) -> nn.Module:
    """The model that the configuration in ``path`` names, on the meta device: names and shapes, no weights.

    The class is the first of ``architectures`` that transformers has; without one, the causal language model of the
    model type, else its bare model. Raises :class:`CheckpointError`.
    """
    config = load_config(path)
    kinds: list[Any] = [getattr(transformers, name, None) for name in config.architectures or ()]
    builders = [kind._from_config for kind in kinds if _is_model(kind)]
    builders += [AutoModelForCausalLM.from_config, AutoModel.from_config]
    why: Exception | None = None
    for build in builders:
        try:
            return _built(build, config)
        except Exception as error:  # a contradictory config meets ZeroDivisionError, TypeError and others
            why = why or error
    text = " ".join(f"{type(why).__name__}: {why}".split())
    raise CheckpointError(
        f"a model of type {config.model_type!r}",
        f"transformers cannot build it ({text:.{_LONGEST_REASON}})",
        "check its config",
    )


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, PreTrainedModel)


def _built(build: Any, config: PretrainedConfig) -> nn.Module:
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with torch.device("meta"):
            model: nn.Module = build(copy.deepcopy(config))
    finally:
        transformers_logging.set_verbosity(before)
    return model.eval()


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
    """Stored name -> :class:`Match`, for every tensor of ``stored`` (name -> shape) that belongs to ``model``.

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
