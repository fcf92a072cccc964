"""Other people's quantizers in one form: (rows, columns) float32 in, dequantized float32 out.

torchao is not installed where transformers would find and load it, but in a folder of its own beside site-packages.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import gfloat
import numpy as np
import torch
from gfloat import formats
from torch import Tensor

FOLDER = Path(sys.prefix) / "oracles"
FORMATS = "torchao.prototype.mx_formats"
GFLOAT = {
    "fp4_e2m1": formats.format_info_ocp_e2m1,
    "fp6_e2m3": formats.format_info_ocp_e2m3,
    "fp6_e3m2": formats.format_info_ocp_e3m2,
    "fp8_e4m3": formats.format_info_ocp_e4m3,
    "fp8_e5m2": formats.format_info_ocp_e5m2,
}
MX_OF_TORCHAO = ("mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2")


@functools.cache
def torchao() -> dict[str, ModuleType] | None:
    """The modules that are used here, by the last part of their name; None where torchao is not there.

    It is imported once, and neither the path nor the loaded modules show it afterwards: transformers, asked in the
    same process, goes on as if it were not there.
    """
    before = list(sys.path)
    sys.path.append(str(FOLDER))
    try:
        if importlib.util.find_spec("torchao") is None:
            return None
        names = ("mx_tensor", "nvfp4_tensor", "kernels", "config", "constants")
        return {name: importlib.import_module(f"{FORMATS}.{name}") for name in names}
    finally:
        sys.path[:] = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchao"]:
            del sys.modules[name]


def torchao_mx(modules: dict[str, ModuleType], x: Tensor, name: str, rule: str) -> Tensor:
    """Its MX formats, through its own codes and scales."""
    constants, tensor = modules["constants"], modules["mx_tensor"]
    element = {
        "mxfp4": torch.float4_e2m1fn_x2,
        "mxfp6_e2m3": constants.DTYPE_FP6_E2M3,
        "mxfp6_e3m2": constants.DTYPE_FP6_E3M2,
        "mxfp8_e4m3": torch.float8_e4m3fn,
        "mxfp8_e5m2": torch.float8_e5m2,
    }[name]
    mode = modules["config"].ScaleCalculationMode(rule)
    scales, codes = tensor.to_mx(x.contiguous(), element, 32, mode)
    return tensor.to_dtype(codes, scales, element, 32, torch.float32)


def torchao_nvfp4(modules: dict[str, ModuleType], x: Tensor) -> Tensor:
    """Its NVFP4 with the tensor scale that it computes from the largest magnitude."""
    tensor, kernels = modules["nvfp4_tensor"], modules["kernels"]
    outer = tensor.per_tensor_amax_to_scale(x.abs().max())
    scales, packed = tensor.nvfp4_quantize(x.contiguous(), 16, outer)
    elements = kernels.f4_unpacked_to_f32(kernels.unpack_uint4(packed)).reshape(x.shape)
    both = (scales.float() * outer).reshape(x.shape[0], -1).repeat_interleave(16, 1)
    return elements * both


def torchao_element(modules: dict[str, ModuleType], x: Tensor, name: str) -> Tensor:
    """Its bit kernels for the elements of 4 and 6 bits."""
    kernels, short = modules["kernels"], {"fp4_e2m1": "f4", "fp6_e2m3": "f6_e2m3", "fp6_e3m2": "f6_e3m2"}[name]
    there, back = getattr(kernels, f"f32_to_{short}_unpacked"), getattr(kernels, f"{short}_unpacked_to_f32")
    return back(there(x))


def gfloat_element(x: np.ndarray, name: str) -> np.ndarray:
    """Its rounding, ties to even, saturating."""
    return gfloat.round_ndarray(GFLOAT[name], x.astype(np.float64), gfloat.RoundMode.TiesToEven, sat=True)


def gfloat_mx(x: np.ndarray, element: str) -> np.ndarray:
    """Its MX blocks of 32 along rows, scale by floor; a matrix of float64."""
    info = gfloat.BlockFormatInfo("mx", GFLOAT[element], 32, formats.format_info_ocp_e8m0)
    blocks = x.astype(np.float64).reshape(-1, 32)
    return np.stack([gfloat.quantize_block(info, block, gfloat.compute_scale_amax) for block in blocks]).reshape(
        x.shape
    )
