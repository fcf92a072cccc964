"""Writes checkpoints whose linears are stored in eight bits, as the files of DeepSeek and others are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

BLOCK, LARGEST = 32, 448.0
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK], "fmt": "e4m3"}
SCALE = "_scale_inv"


def rewritten(
    base: Path, folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], config: Mapping[str, Any]
) -> Path:
    """Copy the checkpoint ``base`` to ``folder`` with its tensors changed and fields added to its configuration."""
    shutil.copytree(base, folder)
    save_file(change(load_file(base / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(config)))
    return folder


def in_fp8(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The linears in E4M3, with a scale for each block."""
    found = {}
    for name, tensor in tensors.items():
        found[name] = tensor
        if name.endswith("proj.weight"):
            out, inner = tensor.shape
            blocks = tensor.reshape(out // BLOCK, BLOCK, inner // BLOCK, BLOCK)
            scales = blocks.abs().amax((1, 3)) / LARGEST
            codes = blocks / scales[:, None, :, None]
            found[name] = codes.reshape(out, inner).to(torch.float8_e4m3fn)
            found[name + SCALE] = scales
    return found


def dequantized(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the tensors of :func:`in_fp8` stand for, in float32."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        scales = tensors.get(name + SCALE)
        spread = 1.0 if scales is None else scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
        found[name] = tensor.float() * spread
    return found
