"""LoRA adapters in peft's format: read strictly, and merged into a weight as peft merges them, bit for bit."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnostics.places import Place
from harness.diagnostics.stored import StoredTensors
from harness.exceptions import CheckpointError

CONFIG_FILE, WEIGHT_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_OTHER_KINDS = (
    *("use_dora", "use_qalora", "use_bdlora", "target_parameters", "modules_to_save", "trainable_token_indices"),
    *("lora_bias", "layer_replication", "alora_invocation_tokens", "kasa_config", "monteclora_config"),
    *("arrow_config", "velora_config", "megatron_config"),
)
"""Settings of peft's configuration that make an adapter more, or other, than W + scaling * B A."""


@dataclass(frozen=True)
class Update:
    """What an adapter adds to one weight: ``scaling`` * ``b`` @ ``a``, (out, rank) times (rank, in)."""

    a: Tensor
    b: Tensor
    scaling: float

    def merged(self, weight: Tensor, transposed: bool) -> Tensor:
        """``weight`` plus the update in the dtype of the weight; ``transposed`` where it is stored (in, out)."""
        delta = self.b @ self.a
        delta = (delta.t() if transposed else delta) * self.scaling
        if delta.shape != weight.shape:
            raise CheckpointError(
                f"adapter update of shape {tuple(delta.shape)}",
                f"the weight has {tuple(weight.shape)}",
                "adapter and base must belong together",
            )
        return weight.clone().add_(delta.to(weight.device))


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


def is_adapter(path: Path) -> bool:
    """True where ``path`` is the folder of a peft adapter."""
    return (path / CONFIG_FILE).is_file()


def read_adapter(path: Path, base: Path | None = None) -> Adapter:
    """The adapter in the folder ``path``; ``base`` overrides the base path of its configuration.

    Raises :class:`CheckpointError` for another kind than plain LoRA, for damaged files, and where the base is no
    folder here.
    """
    config = _config(path)
    where = base or Path(str(config.get("base_model_name_or_path") or ""))
    if not where.is_dir() or not str(config.get("base_model_name_or_path") or base or ""):
        raise CheckpointError(
            f"adapter {path}",
            f"its base checkpoint {config.get('base_model_name_or_path')!r} is no folder here",
            "give it with --base FOLDER",
        )
    if not (path / WEIGHT_FILE).is_file():
        raise CheckpointError(f"adapter {path}", f"there is no {WEIGHT_FILE} in it", "save it as safetensors")
    stored = StoredTensors(path, (path / WEIGHT_FILE,))
    updates: dict[str, Update] = {}
    for name in stored.names:
        if not name.startswith(_PREFIX) or not name.endswith((_A, _B)):
            raise _other_kind(path, f"it holds {name}")
        module = name.removeprefix(_PREFIX).removesuffix(_A).removesuffix(_B)
        if name.endswith(_A):
            pair = f"{_PREFIX}{module}{_B}"
            if pair not in stored.names:
                raise CheckpointError(f"adapter {path}", f"{pair} is missing", "copy it again")
            # peft widens half precision when it loads an adapter
            a, b = (_widened(stored.read(each)) for each in (name, pair))
            updates[module] = Update(a, b, _scaling(config, module, path))
    if not updates:
        raise CheckpointError(f"adapter {path}", "it holds no update", "train it first")
    return Adapter(path, where, updates, stored)


def _config(path: Path) -> Mapping[str, Any]:
    file = path / CONFIG_FILE
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"file {file}", f"unreadable JSON ({error})", "copy it again") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _other_kind(path, f"peft_type {config.get('peft_type') if isinstance(config, dict) else config!r}")
    odd = [name for name in _OTHER_KINDS if config.get(name)]
    if odd:
        raise _other_kind(path, f"{odd[0]} {config[odd[0]]!r}")
    if config.get("bias", "none") != "none":
        raise _other_kind(path, f"bias {config['bias']!r}")
    return config


def _other_kind(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"adapter {path}", f"only plain LoRA on linears is understood ({why})", "merge it with peft and scan the result"
    )


def _scaling(config: Mapping[str, Any], module: str, path: Path) -> float:
    try:
        rank = _of_pattern(config.get("rank_pattern") or {}, module, config["r"])
        alpha = _of_pattern(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
        return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise CheckpointError(f"file {path / CONFIG_FILE}", f"r or lora_alpha: {error!r}", "copy it again") from None


def _of_pattern(patterns: Mapping[str, Any], module: str, usual: Any) -> Any:
    """peft's rule: the first pattern that matches the end of the path, at a whole component."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), usual)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.clone()


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
