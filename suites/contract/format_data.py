"""Inputs on which quantizers go wrong: every pattern, ties, powers of two and neighbours, subnormals, huge, NaN."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.numerics.keyed_random import Keys, bits, counter_keys, stream_keys
from suites.contract.format_reference import VALUES, codes

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGER = {
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float64: torch.int64,
}


def drawn_bits(rows: int, columns: int, key: int = 0) -> Tensor:
    """Keyed random bits, int32."""
    return bits(
        Keys.of(counter_keys(key, torch.arange(rows))).view(-1, 1), stream_keys(key + 1, columns, CPU).view(1, -1)
    )


def uniforms(rows: int, columns: int, key: int = 0) -> Tensor:
    """Keyed uniform draws in (0, 1), float64: the middles of 2**32 cells."""
    return (drawn_bits(rows, columns, key).double() + 2.0**31 + 0.5) * 2.0**-32


def normals(rows: int, columns: int, key: int = 0) -> Tensor:
    """Keyed standard normal draws by the inverse of the distribution function, float64; no global generator."""
    return torch.special.ndtri(uniforms(rows, columns, key))


def patterns(dtype: torch.dtype) -> Tensor:
    """(2048, 32): all 65,536 patterns of a 16-bit dtype in their order; of a wider one random patterns, all finite."""
    if dtype.itemsize == 2:
        return torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).reshape(-1, 32)
    low = drawn_bits(2048, 32)
    if dtype == torch.float64:
        low = (drawn_bits(2048, 32, 5).long() << 32) | (low.long() & 0xFFFFFFFF)
    x = low.view(dtype)
    return torch.where(x.isfinite(), x, torch.ones((), dtype=dtype))


def mixed(dtype: torch.dtype) -> Tensor:
    """The patterns in a keyed order: blocks hold values of all sizes, and some NaN or infinity."""
    x = patterns(dtype).flatten()
    return x[drawn_bits(1, x.numel(), 9).flatten().argsort()].reshape(-1, 32).contiguous()


def powers(dtype: torch.dtype) -> Tensor:
    """For k in -120..120 (that the dtype holds) 2**k and both neighbours as a block's largest, over a spread of
    smaller ones; one block per row, both signs."""
    exponents = torch.arange(-120, 121) if dtype != torch.float16 else torch.arange(-24, 16)
    exact = torch.pow(torch.tensor(2.0, dtype=torch.float64), exponents.double()).to(dtype)
    pattern = exact.view(INTEGER[dtype])
    largest = torch.cat([(pattern + step).view(dtype) for step in (-1, 0, 1)])
    share = torch.linspace(-0.999, 0.999, 31, dtype=torch.float64)
    rest = (largest.double()[:, None] * share).to(dtype)
    return torch.cat([largest[:, None], rest], 1)


def ties(name: str, dtype: torch.dtype) -> Tensor:
    """Every midpoint of neighbouring values of the element ``name``, what is next to it, and the values; both signs.

    In rows of 32 whose first is the largest value, so that a scale by a power of two is 1 under every rule but ceil;
    once as it is and once times a power of two.
    """
    grid = codes(name)
    middle = torch.from_numpy((grid[:-1] + grid[1:]) / 2).to(dtype)
    middle = middle[middle.double() == torch.from_numpy((grid[:-1] + grid[1:]) / 2)]
    pattern = middle.view(INTEGER[dtype])
    near = [(pattern + step).view(dtype) for step in (-1, 0, 1)]
    flat = torch.cat([*near, torch.from_numpy(grid).to(dtype)])
    flat = torch.cat([flat, -flat])
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 31)).reshape(-1, 31)
    rows = torch.cat([torch.full((len(flat), 1), VALUES[name].largest, dtype=dtype), flat], 1)
    return torch.cat([rows, rows * 2.0**-3, -rows]) if dtype == torch.float16 else torch.cat([rows, rows * 2.0**-37])


def extremes(dtype: torch.dtype) -> Tensor:
    """Subnormals, the largest finite values, zeros of both signs, and blocks with NaN or infinity; (rows, 64)."""
    info = torch.finfo(dtype)
    unit = torch.tensor(info.smallest_normal, dtype=torch.float64) * info.eps
    counts = (drawn_bits(8, 64, 3).long() & 0x7FFFFF).double() / 2 ** (torch.arange(8).double()[:, None] * 3)
    small = (counts.floor() * unit * min(1.0, 2 / (info.eps * 2**23))).to(dtype)
    sign = torch.where(drawn_bits(8, 64, 4) > 0, 1.0, -1.0).to(dtype)
    huge = (uniforms(8, 64, 6).pow(2) * info.max).to(dtype)
    huge[:4, 5] = info.max
    huge[4, 40] = -info.max
    zeros = torch.zeros(3, 64, dtype=dtype)
    zeros[1] = -0.0
    zeros[2, 32:] = torch.linspace(0.1, 1, 32).to(dtype)
    bad = torch.linspace(-3, 3, 64).to(dtype).repeat(4, 1)
    bad[0, 3], bad[1, 40], bad[2, 63], bad[3, 0] = float("nan"), float("inf"), -float("inf"), float("nan")
    bad[3, 63] = float("inf")
    return torch.cat([small * sign, huge * sign, zeros, bad])


def ordinary(dtype: torch.dtype) -> Tensor:
    """Normal draws at five widths, (160, 96)."""
    widths = torch.tensor([1.0, 0.02, 1e-3, 30.0, 0.7]).double().repeat_interleave(32)[:, None]
    return (normals(160, 96) * widths).to(dtype)


def numpy_of(x: Tensor) -> np.ndarray:
    """In the dtype that the package computes in."""
    return (x if x.dtype == torch.float64 else x.float()).numpy()
