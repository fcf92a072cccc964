"""Whether an adapter belongs to a base: every update has its linear, of its shape, and every target its update."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from harness.checkpoints.lora import Update
from harness.checkpoints.outline import build_outline
from harness.exceptions import CheckpointError
from harness.noise.meta import load_config, meta_model

ALL_LINEAR = "all-linear"
_LINEARS = (nn.Linear, Conv1D)


@dataclass(frozen=True)
class Linears:
    """The linears of a model by path, with the shape (out, in) of their weights, and the one that is its head.

    ``tied`` says that the head's weight is also the embedding.
    """

    model: str
    shapes: Mapping[str, tuple[int, int]]
    modules: tuple[str, ...]
    head: str | None
    tied: bool


def linears_of(folder: Path) -> Linears:
    """Return the linears of the model that the configuration in ``folder`` describes; no weight is read."""
    config = load_config(folder)
    if getattr(config, "quantization_config", None):
        raise CheckpointError(
            f"base checkpoint {folder}", "it is quantized already", "give the base that it was quantized from"
        )
    model: Any = _outline(folder, config)
    shapes = {}
    for path, module in model.named_modules():
        if type(module) in _LINEARS:
            out, inner = module.weight.shape if isinstance(module, nn.Linear) else module.weight.shape[::-1]
            shapes[path] = (int(out), int(inner))
    head, embedding = _embeddings(model)
    path = next((path for path, module in model.named_modules() if module is head), None)
    tied = head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", False)
    every = tuple(path for path, _ in model.named_modules() if path)
    return Linears(type(model).__name__, shapes, every, path, tied)


def _outline(folder: Path, config: Any) -> nn.Module:
    """The causal language model, as it is evaluated; where there is none, what the configuration names."""
    try:
        return meta_model(config)
    except CheckpointError:
        return build_outline(folder)


def _embeddings(model: Any) -> tuple[Any, Any]:
    """Of output and input; encoders have no output."""
    try:
        return model.get_output_embeddings(), model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None, None


def check_fit(adapter: Path, config: Mapping[str, Any], updates: Mapping[str, Update], linears: Linears) -> None:
    """Raise :class:`CheckpointError` for an update without its linear, or of another shape; for a target module that
    the base does not have; and for one that has no update."""
    strangers = sorted(path for path in updates if path not in linears.shapes)
    if strangers:
        raise CheckpointError(
            f"adapter {adapter}",
            f"{len(strangers)} of its updates fit no linear of {linears.model}, the first is {strangers[0]}",
            "adapter and base must belong together",
        )
    for path, update in updates.items():
        if update.shape != linears.shapes[path]:
            raise CheckpointError(
                f"adapter {adapter}",
                f"its update of {path} has shape {list(update.shape)}, the base has {list(linears.shapes[path])}",
                "adapter and base must belong together",
            )
    targets = config.get("target_modules")
    for target in targets if isinstance(targets, list) else ():
        if not any(_ends(path, target) for path in linears.modules):
            raise CheckpointError(
                f"adapter {adapter}",
                f"its target module {target!r} is not a module of {linears.model}",
                "adapter and base must belong together",
            )
    bare = sorted(path for path in linears.shapes if path not in updates and _targeted(path, config, linears))
    if bare:
        raise CheckpointError(
            f"adapter {adapter}",
            f"{bare[0]} is a target of its configuration, but has no update ({len(bare)} in all)",
            "copy it again",
        )


def _targeted(path: str, config: Mapping[str, Any], linears: Linears) -> bool:
    """peft's rule, for configurations without the narrower ones (layers, exclusions): they may leave targets bare."""
    targets = config.get("target_modules")
    if config.get("exclude_modules") or config.get("layers_to_transform") is not None:
        return False
    if targets == ALL_LINEAR:
        return path != linears.head
    if isinstance(targets, str):
        return re.fullmatch(targets, path) is not None
    return isinstance(targets, list) and any(_ends(path, target) for target in targets)


def _ends(path: str, target: str) -> bool:
    return path == target or path.endswith(f".{target}")
