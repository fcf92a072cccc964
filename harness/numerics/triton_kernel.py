"""Relative noise and its measurement in one pass on a GPU: what ``harness.noise.kernel`` fuses on a CPU, bit for bit.

One Triton kernel reads y once and writes y' once; it draws in registers and holds nothing of the size of y. A program
handles one row of it, tile after tile, so that its sums need no second kernel; only few and wide rows (decoding) are
cut into blocks of tiles, to occupy the device, whose partial sums are then added up. Keys of columns are shared by
all rows and stay in the cache.

The draws are integer arithmetic modulo 2**32; every float operation that decides a bit of y' is one IEEE operation,
in the order of :func:`harness.numerics.keyed_random.normals` and
:func:`harness.numerics.error_models.relative_gaussian`. :func:`available` checks that on the device once.

Two-dimensional only: keys that broadcast over more dimensions (attention scores) take the general way.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from types import ModuleType

import torch
from torch import Tensor

from harness.numerics.error_models import relative_gaussian
from harness.numerics.keyed_random import Keys, derive_key, normals, stream_keys

log = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SUMS = 6
"""Changed, nonzero, nonfinite, signal, error, relative: the order of ``harness.noise.kernel.MEASURES``."""

LANES = 32
VECTOR_BYTES = 16
"""What a thread reads at once."""

BUSY_WARPS = 2048
"""Warps that occupy a large GPU; rows are not cut into blocks while there are more."""

LEAST_STEPS = 8
"""Tiles below which cutting a row saves less than the second kernel costs."""

OPTIONS = {"enable_fp_fusion": False}
"""Of the compiler: a product and a sum stay two roundings, as on the CPU."""

_GPUS = ("cuda", "xpu")  # ROCm calls itself cuda


def perturb_rows(y: Tensor, rows: Keys, columns: Keys, scale: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(y', sums)``: ``y + y * (scale * z)`` with z drawn from the keys, and what that changed in each row.

    ``y`` is (R, C) of one of :data:`DTYPES`, not modified (and copied if not contiguous); ``rows`` and ``columns``
    hold R and C int32 keys and ``real`` R bools, False for padding, which is perturbed too but not measured; each of
    any shape, or one for all; ``scale`` is one float32 (a fraction >= 0), read on the device. All lie on one device
    for which :func:`available` is true.

    ``y'`` is a new tensor like ``y``; infinite, NaN and undrawn elements (z or scale 0) keep their bits. ``sums`` is
    float32 (R, 6) in the order changed, nonzero, nonfinite, signal, error, relative (:data:`SUMS`), counts exact up to
    2**24 columns, energies to float32 rounding; 0 for padding. Errors are those of the rounded ``y'``. Nothing
    synchronises, so that it may be captured in a CUDA graph once it ran for the dtype and width.

    Raises ValueError for a dtype, shape or device that does not fit, and where a gradient would be lost.
    """
    _check(y, scale)
    count, width = y.shape
    y = y.contiguous()
    after = torch.empty_like(y)
    given = (
        *(_spread(half, count, torch.int32, y) for half in rows),
        *(_spread(half, width, torch.int32, y) for half in columns),
    )
    kept = _spread(real, count, torch.bool, y)
    if y.numel() == 0:
        return after, torch.zeros(count, SUMS, device=y.device)
    source = _source()
    warps, tile, steps, blocks = layout(count, width, y.element_size())
    sums = torch.empty(count, blocks, SUMS, device=y.device)
    with torch.accelerator.device_index(y.device.index):
        source.perturb_tiles[count, blocks](
            *(y, after, sums, *given, scale, kept, width, steps),
            TILE=tile,
            DOT=y.device.type == "cuda" and torch.version.hip is None and not source.INTERPRETED,
            num_warps=warps,
            **OPTIONS,
        )
    return after, sums[:, 0] if blocks == 1 else sums.sum(1)


def layout(count: int, width: int, element_size: int) -> tuple[int, int, int, int]:
    """Return (warps of a program, elements of a tile, tiles of a program, programs of a row) for ``count`` rows.

    Narrow rows get fewer warps: a tile that reaches beyond the row is wasted arithmetic.
    """
    vector = VECTOR_BYTES // element_size
    warps = 1 if width <= 2 * LANES * vector else 2 if width <= 16 * LANES * vector else 4
    tile = warps * LANES * vector
    tiles = -(-width // tile)
    blocks = max(1, min(-(-tiles // LEAST_STEPS), -(-BUSY_WARPS // (count * warps))))
    steps = -(-tiles // blocks)
    return warps, tile, steps, -(-tiles // steps)


@functools.cache
def available(device: torch.device) -> bool:
    """Return whether :func:`perturb_rows` works on ``device`` and gives the bits of the CPU there; never raises.

    True on a GPU that triton supports. On the CPU only in Triton's interpreter (``TRITON_INTERPRET=1`` before triton
    is imported), and only where that rounds to bfloat16 as processors do, which it does not by itself. The first call
    for a device compiles and synchronises; call it before a CUDA graph is captured. A device that fails the check is
    named in a warning.
    """
    if device.type not in _GPUS and not (device.type == "cpu" and os.environ.get("TRITON_INTERPRET")):
        return False
    try:
        if device.type == "cpu" and not _source().INTERPRETED:
            return False
        if all(_agrees(device, dtype) for dtype in DTYPES):
            return True
        log.warning("the triton kernel gives other bits on %s than the CPU: it is not used", device)
    except ImportError:
        log.info("no triton: its kernel is not used on %s", device)
    except Exception as error:  # a driver, a C compiler or a backend that is missing raises many kinds of errors
        log.warning("no working triton on %s (%s): its kernel is not used", device, type(error).__name__)
    return False


@functools.cache
def _source() -> ModuleType:
    # importing triton takes long, and not every machine has it
    return importlib.import_module("harness.numerics.triton_source")


@torch.inference_mode()
def _agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a few thousand elements of wide range get the bits that the CPU gives them."""
    cpu = torch.device("cpu")
    rows, columns = stream_keys(derive_key("check"), 8, cpu), stream_keys(derive_key("check", 1), 512, cpu)
    y = torch.linspace(-6, 6, 8 * 512).pow(5).to(dtype).view(8, 512)
    scale, real = torch.tensor(0.3), torch.ones(8, dtype=torch.bool)
    expected = relative_gaussian(y, scale * normals(rows.view(8, 1), columns.view(1, 512)))
    there = [Keys(*(half.to(device) for half in keys)) for keys in (rows, columns)]
    after, _ = perturb_rows(y.to(device), there[0], there[1], scale.to(device), real.to(device))
    return torch.equal(after.cpu(), expected)


def _check(y: Tensor, scale: Tensor) -> None:
    if y.ndim != 2 or y.dtype not in DTYPES:
        raise ValueError(f"y of shape {tuple(y.shape)}, {y.dtype}; two dimensions of {', '.join(map(str, DTYPES))}")
    if y.requires_grad and torch.is_grad_enabled():
        raise ValueError("y requires a gradient, which the kernel does not carry; perturb it eagerly")
    if scale.numel() != 1 or scale.dtype != torch.float32 or scale.device != y.device:
        found = f"scale of {scale.numel()} {scale.dtype} on {scale.device}"
        raise ValueError(f"{found}; one {torch.float32} on {y.device}")


def _spread(given: Tensor, count: int, dtype: torch.dtype, y: Tensor) -> Tensor:
    """``given`` as ``count`` adjacent elements: it holds as many, or one for all."""
    if given.numel() not in (count, 1) or given.dtype != dtype or given.device != y.device:
        found = f"{given.numel()} {given.dtype} on {given.device}"
        raise ValueError(f"{found}; y of shape {tuple(y.shape)} needs {count} {dtype} on {y.device}")
    return (given if given.numel() == count else given.reshape(1).expand(count)).contiguous()
