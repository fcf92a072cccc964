"""Weights that are stored quantized: what a checkpoint says of them, whether it is so, and how it is undone on loading.

Three methods are dequantized to the dtype of the evaluation, on every device alike: ``fp8`` (blocks, or one scale),
``mxfp4`` (gpt-oss) and ``compressed-tensors``. The values of the weights are then those of the file; activations are
not quantized, whatever the file says of them (``--quantize activations=...`` does that). Every other method is refused:
it needs kernels that this package does not drive, and transformers skips a method that it does not know, without an
error.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from harness.checkpoints.folder import weight_files
from harness.checkpoints.tensors import opened
from harness.exceptions import CheckpointError
from harness.strict import read_object

FIELD, OLD_FIELD = "quantization_config", "compression_config"
FP8, MXFP4, COMPRESSED = "fp8", "mxfp4", "compressed-tensors"

DEQUANTIZED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {FP8: {"dequantize": True}, MXFP4: {"dequantize": True}, COMPRESSED: {"run_compressed": False}}
)
"""Method -> what transformers is told so that it dequantizes on loading."""

_PACKAGES = MappingProxyType({FP8: "accelerate", COMPRESSED: "compressed_tensors"})
_OF_THE_WRITER = ("version", "global_compression_ratio", "quantization_status")
_PLAIN = ("F64", "F32", "F16", "BF16")
_SCALES = MappingProxyType({"weight": ("weight_scale_inv", "scale"), "": ("_scale_inv",), "_blocks": ("_scales",)})
_WAY_OUT = "give the checkpoint that it was quantized from, or a dequantized one"


@dataclass(frozen=True)
class StoredQuantization:
    """What ``config.json`` says of the quantization of the weights beside it."""

    method: str
    config: Mapping[str, Any]

    @property
    def text(self) -> str:
        """One line for keys: the method, and 12 hex digits over all that decides which weights are quantized how."""
        content = {name: value for name, value in self.config.items() if name not in _OF_THE_WRITER}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"file in {self.method} ({hashlib.sha256(text.encode()).hexdigest()[:12]}), dequantized"

    def sentence(self, dtype: str) -> str:
        """Return what is said of it before a run in ``dtype``."""
        return f"its weights, stored as {self.method}, are dequantized to {dtype}; its activations are not quantized"


def stored_quantization(path: Path) -> StoredQuantization | None:
    """Return what the configuration in the folder or file ``path`` says; None where the weights are stored plainly.

    Raises :class:`CheckpointError` for what cannot be dequantized here, and for an entry that transformers would skip.
    """
    file = path / "config.json" if path.is_dir() else path
    values = read_object(file)
    for inner in (value for value in values.values() if isinstance(value, dict)):
        if inner.get(FIELD) is not None and values.get(FIELD) is None:
            raise _refused(file, "it has a quantization_config inside another table, which transformers skips")
    if values.get(OLD_FIELD) is not None:
        raise _refused(file, f"its {OLD_FIELD} is of a format that transformers no longer reads")
    found = values.get(FIELD)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else None
    if not isinstance(method, str):
        raise CheckpointError(
            f"{FIELD} {found!r:.80} in file {file}", "it is an object with a quant_method", "correct it, or remove it"
        )
    if method not in DEQUANTIZED:
        known = ", ".join(DEQUANTIZED)
        raise _refused(file, f"weights quantized with {method} cannot be dequantized here (only {known} can)")
    if found.get("transform_config"):
        raise _refused(file, "its weights are transformed as well as quantized, which transformers does not undo")
    package = _PACKAGES.get(method)
    if package is not None and importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise CheckpointError(f"config {file}", f"{name} dequantizes its {method} weights", f"pip install {name}")
    return StoredQuantization(method, MappingProxyType(found))


def dequantizing(config: Any, stored: StoredQuantization | None) -> None:
    """Change ``config``, transformers' own of a checkpoint, so that loading it dequantizes on every device."""
    if stored is None:
        vars(config).pop(FIELD, None)  # null
        return
    config.quantization_config = {**stored.config, **DEQUANTIZED[stored.method]}
    if stored.config.get("kv_cache_scheme") is not None:
        config.quantization_config["kv_cache_scheme"] = None  # it would wrap the attention


def of_activations(name: str) -> bool:
    """Return True for a stored tensor that scales activations, keys or values alone: nothing takes it here."""
    return name.endswith((".input_scale", ".output_scale", ".k_scale", ".v_scale", ".q_scale"))


def settle(model: nn.Module, dtype: torch.dtype) -> None:
    """Turn what was dequantized in ``model`` back into plain modules, in ``dtype``.

    compressed-tensors wraps their forward, which would quantize once more, and keeps scales beside their weights;
    four-bit weights arrive in bfloat16, whatever is asked for.
    """
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is not None:
            for name in ("forward", "quantization_scheme", "quantization_status", "quantization_enabled"):
                module.__dict__.pop(name, None)
            for name in module._parameters.keys() - {"weight", "bias"}:
                del module._parameters[name]
    for parameter in model.parameters():
        if parameter.dtype == torch.bfloat16 != dtype:
            parameter.data = parameter.data.to(dtype)


def check_stored(path: Path, stored: StoredQuantization | None, model: nn.Module) -> None:
    """Raise :class:`CheckpointError` where the files in the folder ``path`` are not what their configuration says.

    Without a quantization no weight is stored as integers or in eight bits: transformers would cast the codes to
    floating point, without their scales and without a word. With one, something is quantized, and has its scales, as
    many as its blocks: transformers would divide a weight into as many equal blocks as it finds scales.
    """
    types: dict[str, str] = {}
    shapes: dict[str, list[int]] = {}
    for file in weight_files(path):
        with opened(file) as handle:
            for name in handle.keys():  # noqa: SIM118 (no mapping)
                tensor = handle.get_slice(name)
                types[name], shapes[name] = tensor.get_dtype(), tensor.get_shape()
    coded = sorted(name for name, kind in types.items() if kind not in _PLAIN)
    if stored is None:
        known = {name for name, _ in model.named_parameters()}
        odd = next((n for n in coded if n in known or n.endswith("weight") or types[n].startswith("F8")), None)
        if odd is not None:
            rule = f"{odd} is stored as {types[odd]}, and its config.json names no quantization"
            raise CheckpointError(f"checkpoint {path}", rule, "restore its quantization_config, or its plain weights")
        return
    if not coded:
        rule = f"its config.json says {stored.method}, and none of its weights is stored quantized"
        raise CheckpointError(f"checkpoint {path}", rule, f"remove {FIELD} from config.json, or copy its own weights")
    if stored.method != COMPRESSED:  # its loader misses scales by name
        bare = next((name for name in coded if _is_bare(name, types)), None)
        if bare is not None:
            raise CheckpointError(f"checkpoint {path}", f"{bare} is stored as {types[bare]} without scales", _WAY_OUT)
        block = stored.config.get("weight_block_size")
        torn = next((name for name in coded if types[name].startswith("F8_E4") and _is_torn(name, shapes, block)), None)
        if torn is not None:
            rule = f"{torn} of shape {shapes[torn]} is not whole blocks of {block} with a scale each"
            raise CheckpointError(f"checkpoint {path}", rule, _WAY_OUT)


def _is_torn(name: str, shapes: Mapping[str, list[int]], block: Any) -> bool:
    """True for a matrix whose blocks, as its grid of scales divides it, are others than its configuration says."""
    scales = shapes.get(f"{name}_scale_inv", [])
    if not block or len(scales) != 2 or len(shapes[name]) != 2:
        return False
    return any(size != count * most for size, count, most in zip(shapes[name], scales, block, strict=True))


def _is_bare(name: str, types: Mapping[str, str]) -> bool:
    """True for a quantized tensor without scales under any of the names that its method gives them."""
    if name.endswith(("scale_inv", "scales", ".scale")):
        return False
    ending = next(end for end in ("_blocks", "weight", "") if name.endswith(end))
    stem = name.removesuffix(ending)
    return not any(f"{stem}{scale}" in types for scale in _SCALES[ending])


def _refused(file: Path, rule: str) -> CheckpointError:
    return CheckpointError(f"config {file}", rule, _WAY_OUT)
