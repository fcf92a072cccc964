"""LoRA adapters in peft's format: read strictly, and merged into a weight as peft merges them, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.checkpoints.lora import CONFIG_FILE, Update, find_base, is_adapter, read_config, read_updates, weight_file
from harness.checkpoints.tensors import StoredTensors
from harness.diagnostics.places import Place
from harness.exceptions import CheckpointError

__all__ = ["Adapter", "Update", "beside", "is_adapter", "merge_into", "read_adapter"]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter: the folder, its base checkpoint, and its updates by the path of the module."""

    path: Path
    base: Path
    updates: Mapping[str, Update]
    stored: StoredTensors

    @property
    def settings(self) -> str:
        """SHA-256 of its configuration, 64 hex digits."""
        return hashlib.sha256((self.path / CONFIG_FILE).read_bytes()).hexdigest()

    def check(self, places: Mapping[str, Place]) -> None:
        """Raises :class:`CheckpointError` for an update of a module that ``places`` do not have as a linear."""
        linears = {place.module for place in places.values() if place.hooked}
        strangers = sorted(path for path in self.updates if path not in linears)
        if strangers:
            raise CheckpointError(
                f"adapter {self.path}",
                f"{len(strangers)} of its updates fit no linear of the base {self.base}, the first is {strangers[0]}",
                "adapter and base must belong together; only linears are merged",
            )


def read_adapter(path: Path, base: Path | None = None) -> Adapter:
    """The adapter in the folder ``path``; ``base`` overrides the base path of its configuration.

    Raises :class:`CheckpointError` for another kind than plain LoRA, for damaged files, and where the base is no
    folder here.
    """
    config = read_config(path)
    where = find_base(path, config, base)
    stored = StoredTensors(f"adapter {path}", (weight_file(path),))
    return Adapter(path, where, read_updates(path, config), stored)


@torch.no_grad()
def merge_into(model: nn.Module, adapter: Adapter, places: Mapping[str, Place]) -> None:
    """Adds the updates to the weights of a loaded ``model``, for good."""
    adapter.check(places)
    transposed = {place.module: place.transposed for place in places.values() if place.hooked}
    for path, update in adapter.updates.items():
        weight: Any = model.get_submodule(path).weight
        weight.copy_(
            Update(update.a.to(weight.device), update.b.to(weight.device), update.scaling).merged(
                weight, transposed[path]
            )
        )


@contextmanager
def beside(model: nn.Module, adapter: Adapter) -> Iterator[None]:
    """Runs the adapter beside its linears, in high precision, on the inputs that come in, quantized or not.

    Must be entered before whatever quantizes inputs, so that it sees them as they are.
    """
    handles = []
    inputs: dict[str, Tensor] = {}

    def before(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs[path] = args[0]

        return hook

    def after(path: str, update: Update) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            x = inputs.pop(path).to(update.a.dtype)
            a, b = update.a.to(x.device), update.b.to(x.device)
            added = nn.functional.linear(nn.functional.linear(x, a), b)
            return output + (added * update.scaling).to(output.dtype)

        return hook

    try:
        for path, update in adapter.updates.items():
            module = model.get_submodule(path)
            handles.append(module.register_forward_pre_hook(before(path)))
            handles.append(module.register_forward_hook(after(path, update)))
        yield
    finally:
        for handle in handles:
            handle.remove()
