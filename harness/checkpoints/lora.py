"""LoRA adapters in peft's format, read strictly: what each adds to the weight of which module.

Everything that is more, or other, than W + scaling * B A on a linear is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.checkpoints.folder import fingerprint_tensors, opened
from harness.exceptions import CheckpointError

CONFIG_FILE, WEIGHT_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX, A, B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
"""How peft names the two factors of the module M: ``base_model.model.M.lora_A.weight`` (and B)."""

_PICKLE = "adapter_model.bin"
_OTHER_KINDS = (
    *("use_dora", "use_qalora", "use_bdlora", "target_parameters", "modules_to_save", "trainable_token_indices"),
    *("lora_bias", "layer_replication", "alora_invocation_tokens", "kasa_config", "monteclora_config"),
    *("arrow_config", "velora_config", "megatron_config"),
)
"""Settings of peft's configuration that make an adapter more, or other, than W + scaling * B A."""

_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to initialise an adapter that leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and others change it."""


@dataclass(frozen=True)
class Update:
    """What an adapter adds to one weight: ``scaling`` * ``b`` @ ``a``, (out, rank) times (rank, in)."""

    a: Tensor
    b: Tensor
    scaling: float

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the weight it belongs to."""
        return self.b.shape[0], self.a.shape[1]

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


def is_adapter(path: Path) -> bool:
    """True where ``path`` is the folder of a peft adapter."""
    return (path / CONFIG_FILE).is_file()


def read_config(path: Path) -> Mapping[str, Any]:
    """The configuration of the adapter in the folder ``path``. Raises :class:`CheckpointError` for another kind than
    plain LoRA, and for a damaged file."""
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
    start = config.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        raise _other_kind(path, f"init_lora_weights {start!r}, which changes the base")
    return config


def find_base(path: Path, config: Mapping[str, Any], base: Path | None = None) -> Path:
    """The folder of the base checkpoint: ``base``, else what the configuration of the adapter in ``path`` names, as it
    stands or relative to the adapter. Raises :class:`CheckpointError` where that is no folder here."""
    named = str(config.get("base_model_name_or_path") or "")
    places = (base,) if base is not None else (Path(named), path / named) if named else ()
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        what = f"{str(base)!r} of --base" if base is not None else repr(config.get("base_model_name_or_path"))
        raise CheckpointError(
            f"adapter {path}", f"its base checkpoint {what} is no folder here", "give it with --base FOLDER"
        )
    return found


def weight_file(path: Path) -> Path:
    """The weights of the adapter in the folder ``path``. Raises :class:`CheckpointError` where there are none."""
    if not (path / WEIGHT_FILE).is_file():
        if (path / _PICKLE).is_file():
            raise CheckpointError(
                f"adapter {path}",
                f"there is no {WEIGHT_FILE} in it, and {_PICKLE} is a pickle, which is never loaded: it can run code",
                "save it with save_pretrained(safe_serialization=True)",
            )
        raise CheckpointError(f"adapter {path}", f"there is no {WEIGHT_FILE} in it", "save it as safetensors")
    return path / WEIGHT_FILE


def read_updates(path: Path, config: Mapping[str, Any]) -> dict[str, Update]:
    """Module path -> :class:`Update` of the adapter in the folder ``path``.

    Raises :class:`CheckpointError` for tensors that are no pair of factors, and for none at all.
    """
    tensors: dict[str, Tensor] = {}
    with opened(weight_file(path)) as handle:
        for name in handle.keys():  # noqa: SIM118 (no mapping)
            if not name.startswith(PREFIX) or not name.endswith((A, B)):
                raise _other_kind(path, f"it holds {name}")
            tensors[name] = handle.get_tensor(name)
    updates = {}
    for module in sorted({name.removeprefix(PREFIX).removesuffix(A).removesuffix(B) for name in tensors}):
        names = f"{PREFIX}{module}{A}", f"{PREFIX}{module}{B}"
        missing = [name for name in names if name not in tensors]
        if missing:
            raise CheckpointError(f"adapter {path}", f"{missing[0]} is missing", "copy it again")
        a, b = (_widened(tensors[name]) for name in names)
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise CheckpointError(
                f"adapter {path}",
                f"the factors of {module} have shapes {tuple(a.shape)} and {tuple(b.shape)}, which do not fit together",
                "save it again",
            )
        updates[module] = Update(a, b, _scaling(config, module, path))
    if not updates:
        raise CheckpointError(f"adapter {path}", "it holds no update", "train it first")
    return updates


def fingerprint_adapter(path: Path, updates: Mapping[str, Update]) -> str:
    """SHA-256 over the tensors of the adapter in ``path`` and the scaling of each update, 64 hex digits.

    Raises :class:`CheckpointError` for NaN and infinite values.
    """
    tensors = fingerprint_tensors(f"adapter {path}", (weight_file(path),))
    scalings = "".join(f"|{module}={update.scaling!r}" for module, update in sorted(updates.items()))
    return hashlib.sha256((tensors + scalings).encode()).hexdigest()


def _other_kind(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"adapter {path}", f"only plain LoRA on linears is understood ({why})", "merge it with peft and give the result"
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
    """peft widens half precision when it loads an adapter."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.clone()
