"""What the tests of the error models share: models at a strength, keys, bit patterns and references in float64."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

from harness.numerics.faults import SPIKE_SALT
from harness.numerics.keyed_random import DrawKey, Keys, below, derive_key, normals, stream_keys
from harness.spec.errors import (
    AbsoluteGaussian,
    AbsoluteSaturation,
    BitFlip,
    Deadzone,
    FakeQuant,
    Nondeterministic,
    RelativeBias,
    RelativeGaussian,
    Saturation,
    Spike,
    SpreadBias,
    StuckAt,
    SystematicBias,
    Truncation,
)
from harness.spec.faults import BitFlips, FaultMix, StuckLane

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}

MODELS = (
    *(RelativeGaussian(0.05), Nondeterministic(0.1), AbsoluteGaussian(0.3), SystematicBias(0.01), RelativeBias(0.02)),
    *(SpreadBias(0.1), Truncation(0.3), Deadzone(0.2), Saturation(0.25), AbsoluteSaturation(0.7), Spike(0.3, 3.0)),
    *(StuckAt(0.4, -1.5), BitFlip(0.3, 5), FakeQuant("fp8_e4m3"), FakeQuant("fp8_e5m2"), FakeQuant("bf16")),
    *(BitFlips(0.3), BitFlips(0.2, 5, "burst"), StuckLane(0.5, 7, 2.0), FaultMix(0.4)),
    *(FakeQuant("fp16"), FakeQuant("mxfp4"), FakeQuant("nvfp4", rounding="stochastic"), FakeQuant("int8_channel")),
)

FORMAT_SHAPES = {
    "fp8_e4m3": (3, -6, 448.0),
    "fp8_e5m2": (2, -14, 57344.0),
    "bf16": (7, -126, 3.3895313892515355e38),
    "fp16": (10, -14, 65504.0),
}
"""Mantissa bits, smallest normal exponent, largest value: OCP 8-bit formats (2023) and IEEE 754."""


def label(model) -> str:
    return str(model)


def key_for(*shape: int, rows: str = "r", columns: str = "c") -> DrawKey:
    """A row key for each position but the last, a column key for each last one."""
    lead, last = shape[:-1], shape[-1]
    row_keys = stream_keys(derive_key("rows", rows), math.prod(lead), CPU)
    return DrawKey(row_keys.view(*lead, 1), stream_keys(derive_key("columns", columns), last, CPU))


def pattern(x: torch.Tensor) -> torch.Tensor:
    """The bits, as integers that can be compared."""
    return x.view(INTEGER[x.element_size()])


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(pattern(a), pattern(b))


def all_sorts(dtype: torch.dtype) -> torch.Tensor:
    """(256, 256): every pattern of a 16-bit dtype, else random patterns with special ones in the first row."""
    if dtype.itemsize == 2:
        return torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(dtype).reshape(256, 256)
    info = torch.iinfo(INTEGER[dtype.itemsize])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(info.min, info.max, (256, 256), generator=generator, dtype=INTEGER[dtype.itemsize])
    x = drawn.view(dtype).clone()
    tiny, largest = torch.finfo(dtype).smallest_normal, torch.finfo(dtype).max
    specials = [0.0, -0.0, math.inf, -math.inf, math.nan, tiny, tiny / 4, -tiny / 4, largest, -largest, 1.0, -1.0]
    x[0, : len(specials)] = torch.tensor(specials, dtype=dtype)
    x[1] = math.nan
    x[2] = -0.0
    signalling = torch.finfo(dtype).bits - {4: 9, 8: 12}[dtype.itemsize]
    pattern(x)[3, 0] = pattern(torch.tensor([math.inf], dtype=dtype))[0] | 1 | (1 << (signalling - 2))
    pattern(x)[3, 1] = pattern(torch.tensor([math.inf], dtype=dtype))[0] | 1
    return x


def reference(model, x: torch.Tensor, key: DrawKey) -> np.ndarray:
    """The formula of the model's docstring in float64, one element at a time; the strength as float32 holds it."""
    y = x.double().numpy()
    strength = float(np.float32(model.level)) if x.dtype != torch.float64 else model.level
    draws = _wide(normals(*key), x)
    hits = _wide(below(*key, strength), x)
    heights = _wide(normals(key.rows, key.columns.salted(SPIKE_SALT)), x)
    zero = Keys(torch.tensor(0, dtype=torch.int32), torch.tensor(0, dtype=torch.int32))
    stuck = _wide(below(zero, key.columns, strength), x)
    out = y.copy()
    for at in np.ndindex(*y.shape):
        if math.isfinite(y[at]):
            row = [v for v in y[at[:-1]].tolist() if math.isfinite(v)]
            given = {"z": draws[at], "hit": hits[at], "height": heights[at], "stuck": stuck[at]}
            out[at] = one(model, strength, float(y[at]), row, given)
    return out


def _wide(drawn: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    return drawn.expand(x.shape).double().numpy()


def spread(row: list[float]) -> float:
    mean = math.fsum(row) / len(row)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in row) / len(row))


def clamp(y: float, limit: float) -> float:
    return max(-limit, min(limit, y))


def one(model, s: float, y: float, row: list[float], drawn: dict[str, float]) -> float:
    """One element of strength ``s`` in plain Python."""
    top = max(map(abs, row))
    formulas = {
        RelativeGaussian: lambda: y + s * y * drawn["z"],
        Nondeterministic: lambda: y + s * y * drawn["z"],
        AbsoluteGaussian: lambda: y + s * drawn["z"],
        SystematicBias: lambda: y + s * ((y > 0) - (y < 0)),
        RelativeBias: lambda: y + s * y,
        SpreadBias: lambda: y + s * spread(row),
        Truncation: lambda: float(int(Fraction(y) / Fraction(s)) * Fraction(s)),
        Deadzone: lambda: 0.0 if abs(y) < s * top else y,
        Saturation: lambda: clamp(y, (1 - s) * top),
        AbsoluteSaturation: lambda: clamp(y, model.limit),
        Spike: lambda: model.magnitude * top * drawn["height"] if drawn["hit"] else y,
        StuckAt: lambda: model.value if drawn["stuck"] else y,
        FakeQuant: lambda: float(rounded(np.array(y), model.format)),
    }
    return formulas[type(model)]()


def rounded(y: np.ndarray, name: str) -> np.ndarray:
    """Nearest even in a format by exact scaling with powers of two, saturating; NaN and infinity as they are."""
    mantissa, lowest, limit = FORMAT_SHAPES[name]
    clipped = np.clip(np.where(np.isfinite(y), y, 0.0), -limit, limit)
    exponent = np.maximum(np.frexp(clipped)[1] - 1, lowest) - mantissa
    return np.where(np.isfinite(y), np.ldexp(np.rint(np.ldexp(clipped, -exponent)), exponent), y)
