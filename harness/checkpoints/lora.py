"""LoRA adapters in peft's format, read strictly: what each adds to the weight of which module.

Everything that is more, or other, than W + scaling * B A on a linear is refused by name.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.checkpoints.tensors import StoredTensors, fingerprint_of, opened
from harness.exceptions import CheckpointError
from harness.strict import read_object

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

_KNOWN = frozenset(
    (
        *_OTHER_KINDS,
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "r"),
        *("inference_mode", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out"),
        *("bias", "use_rslora", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern"),
        *("alpha_pattern", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
        *("qalora_group_size", "runtime_config", "ensure_weight_tying", "base_model_sha256"),
    )
)
"""Settings whose meaning is known: an adapter with another one that is on may be something else."""

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
        """Return ``weight`` plus the update in the dtype of the weight; ``transposed`` where it is stored (in, out)."""
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
    """Return True where ``path`` is the folder of a peft adapter."""
    return (path / CONFIG_FILE).is_file()


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the configuration of the adapter in the folder ``path``. Raises :class:`CheckpointError` for another kind
    than plain LoRA, and for a damaged file."""
    config = read_object(path / CONFIG_FILE)
    if config.get("peft_type") != "LORA":
        raise _other_kind(path, f"peft_type {config.get('peft_type')!r}")
    odd = [name for name in _OTHER_KINDS if config.get(name)]
    if odd:
        raise _other_kind(path, f"{odd[0]} {config[odd[0]]!r}")
    unknown = sorted(name for name in config if name not in _KNOWN and config[name])
    if unknown:
        raise _other_kind(path, f"{unknown[0]} {config[unknown[0]]!r:.80}, a setting that is not known here")
    if config.get("bias", "none") != "none":
        raise _other_kind(path, f"bias {config['bias']!r}")
    start = config.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        raise _other_kind(path, f"init_lora_weights {start!r}, which changes the base")
    _check_types(path / CONFIG_FILE, config)
    return config


def _check_types(file: Path, config: Mapping[str, Any]) -> None:
    """What decides the scaling of an update and where it belongs has the type that peft writes."""
    sound = {
        "r": _is_number(config.get("r")),
        "lora_alpha": _is_number(config.get("lora_alpha")),
        "use_rslora": isinstance(config.get("use_rslora", False), bool | None),
        "target_modules": _is_text_or_list(config.get("target_modules")),
        "base_model_name_or_path": isinstance(config.get("base_model_name_or_path"), str | None),
        "revision": isinstance(config.get("revision"), str | None),
        **{name: _is_patterns(config.get(name)) for name in ("rank_pattern", "alpha_pattern")},
    }
    wrong = next((name for name, good in sound.items() if not good), None)
    if wrong is not None:
        what = f"{wrong} {config.get(wrong)!r:.80} in file {file}"
        raise CheckpointError(what, "it has another type than peft writes", "copy it again")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text_or_list(value: object) -> bool:
    return isinstance(value, str | None) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _is_patterns(value: object) -> bool:
    """None, or an object of regular expressions with a number each."""
    if value is None:
        return True
    if not isinstance(value, dict) or not all(_is_number(each) for each in value.values()):
        return False
    try:
        return all(re.compile(pattern) for pattern in value)
    except re.error:
        return False


def find_base(path: Path, config: Mapping[str, Any], base: Path | None = None) -> Path:
    """Return the folder of the base checkpoint: ``base``, else what the configuration of the adapter in ``path`` names,
    as it stands or relative to the adapter. Raises :class:`CheckpointError` where that is not a folder here."""
    named = str(config.get("base_model_name_or_path") or "")
    places = (base,) if base is not None else (Path(named), path / named) if named else ()
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        what = f"{str(base)!r} of --base" if base is not None else repr(config.get("base_model_name_or_path"))
        raise CheckpointError(
            f"adapter {path}", f"its base checkpoint {what} is not a folder here", "give it with --base FOLDER"
        )
    return found


def weight_file(path: Path) -> Path:
    """Return the weights of the adapter in the folder ``path``. Raises :class:`CheckpointError` where there are
    none."""
    if not (path / WEIGHT_FILE).is_file():
        if (path / _PICKLE).is_file():
            raise CheckpointError(
                f"adapter {path}",
                f"there is no {WEIGHT_FILE} in it, and {_PICKLE} is a pickle, which is never loaded: it can run code",
                "save it with save_pretrained(safe_serialization=True)",
            )
        raise CheckpointError(f"adapter {path}", f"there is no {WEIGHT_FILE} in it", "save it as safetensors")
    return path / WEIGHT_FILE


def adapter_tensors(path: Path) -> StoredTensors:
    """Return the tensors of the adapter in the folder ``path``; none is read. Raises :class:`CheckpointError`."""
    return StoredTensors(f"adapter {path}", (weight_file(path),))


def read_updates(path: Path, config: Mapping[str, Any]) -> dict[str, Update]:
    """Return module path -> :class:`Update` of the adapter in the folder ``path``.

    Raises :class:`CheckpointError` for tensors that do not form pairs of factors, and for none at all.
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
        _check_rank(path, config, module, a.shape[0])
        updates[module] = Update(a, b, _scaling(config, module, path))
    if not updates:
        raise CheckpointError(f"adapter {path}", "it holds no update", "train it first")
    return updates


def fingerprint_adapter(path: Path, updates: Mapping[str, Update]) -> str:
    """Return SHA-256 over the tensors of the adapter in ``path`` and the scaling of each update, 64 hex digits.

    Raises :class:`CheckpointError` for NaN and infinite values.
    """
    tensors = fingerprint_of(f"adapter {path}", adapter_tensors(path))
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
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"file {path / CONFIG_FILE}", f"r or lora_alpha: {error!r}", "copy it again") from None


def _check_rank(path: Path, config: Mapping[str, Any], module: str, stored: int) -> None:
    """The rank is part of the scaling: another one than the factors have would scale the update otherwise."""
    said = _of_pattern(config.get("rank_pattern") or {}, module, config.get("r"))
    if said and said != stored:
        raise CheckpointError(
            f"adapter {path}",
            f"its factors of {module} have rank {stored}, {CONFIG_FILE} says {said}",
            "copy its files again: they belong together",
        )


def _of_pattern(patterns: Mapping[str, Any], module: str, usual: Any) -> Any:
    """peft's rule: the first pattern that matches the end of the path, at a whole component."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), usual)


def _widened(tensor: Tensor) -> Tensor:
    """peft widens half precision when it loads an adapter."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.clone()
