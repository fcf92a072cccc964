"""The number formats written anew for the tests: numpy, ml_dtypes and exact exponents; nothing of harness.numerics.

Element tables and the shapes of blocks are typed in from the formats' descriptions. Powers of two and their products
are exact in float64; formats with a real scale compute in the dtype that the package computes in, one operation at a
time in the documented order.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

WHOLE = 0
SMALLEST_REAL, SMALLEST_TENSOR = 2.0**-149, 2.0**-118


@dataclass(frozen=True)
class Values:
    """Largest value, exponent of it, mantissa bits and the type that casts; integers have a step instead of a type."""

    largest: float
    top: int
    mantissa: int
    cast: type | None = None
    step: float = 1.0


VALUES = {
    "fp4_e2m1": Values(6.0, 2, 1, ml_dtypes.float4_e2m1fn),
    "fp6_e2m3": Values(7.5, 2, 3, ml_dtypes.float6_e2m3fn),
    "fp6_e3m2": Values(28.0, 4, 2, ml_dtypes.float6_e3m2fn),
    "fp8_e4m3": Values(448.0, 8, 3, ml_dtypes.float8_e4m3fn),
    "fp8_e5m2": Values(57344.0, 15, 2, ml_dtypes.float8_e5m2),
    "bf16": Values(float(ml_dtypes.finfo(ml_dtypes.bfloat16).max), 127, 7, ml_dtypes.bfloat16),
    "fp16": Values(65504.0, 15, 10, np.float16),
    "int8": Values(127.0, 6, 6),
    "int4": Values(7.0, 2, 2),
    "mx_int8": Values(127 / 64, 0, 6, step=1 / 64),
}
UNSCALED = ("fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "int8", "int4")
MX = {
    "mxfp4": ("fp4_e2m1", 1, 32),
    "mxfp6_e2m3": ("fp6_e2m3", 1, 32),
    "mxfp6_e3m2": ("fp6_e3m2", 1, 32),
    "mxfp8_e4m3": ("fp8_e4m3", 1, 32),
    "mxfp8_e5m2": ("fp8_e5m2", 1, 32),
    "mxint8": ("mx_int8", 1, 32),
    "mxfp4_32x32": ("fp4_e2m1", 32, 32),
}
NVFP4 = {"nvfp4": ("fp4_e2m1", 1, 16), "nvfp4_16x16": ("fp4_e2m1", 16, 16)}
REAL = {
    "int8_channel": ("int8", 1, WHOLE),
    "int4_g32": ("int4", 1, 32),
    "int4_g128": ("int4", 1, 128),
    "fp8_e4m3_tensor": ("fp8_e4m3", WHOLE, WHOLE),
    "fp8_e5m2_tensor": ("fp8_e5m2", WHOLE, WHOLE),
}
RULES = ("floor", "even", "ceil", "rceil")
CASES = [
    *((name, "floor") for name in (*UNSCALED, *NVFP4, *REAL)),
    *((name, rule) for name in MX for rule in RULES),
]
"""Every format, the MX formats with every scale rule."""


def element(name: str, y: np.ndarray) -> np.ndarray:
    """``y`` (finite, float32 or float64) to the nearest value, ties to even, saturating; float64.

    Through the cast of ml_dtypes from float32. Float64 has bits that float32 cannot hold: there the codes are searched.
    """
    values = VALUES[name]
    clipped = np.clip(y, -values.largest, values.largest)
    if values.cast is None:
        return np.rint(clipped.astype(np.float64) / values.step) * values.step
    if y.dtype == np.float64 and not np.array_equal(clipped, clipped.astype(np.float32)):
        return searched(name, clipped)
    return clipped.astype(np.float32).astype(values.cast).astype(np.float64)


def codes(name: str) -> np.ndarray:
    """The magnitudes in the order of their codes, 0 first, float64; formats of at most 8 bits."""
    values = VALUES[name]
    if values.cast is None:
        return np.arange(round(values.largest / values.step) + 1) * values.step
    found = np.arange(1 << (ml_dtypes.finfo(values.cast).bits - 1), dtype=np.uint8).view(values.cast).astype(np.float64)
    return found[np.isfinite(found)]


def searched(name: str, y: np.ndarray) -> np.ndarray:
    """The nearest of the magnitudes, by comparison with the exact midpoints; a tie goes to the even code."""
    if name in ("bf16", "fp16"):
        least, bits = (-126, 7) if name == "bf16" else (-14, 10)
        exponent = np.maximum(np.frexp(y)[1] - 1, least) - bits
        return np.ldexp(np.rint(np.ldexp(y, -exponent)), exponent)
    grid = codes(name)
    middles = (grid[:-1] + grid[1:]) / 2
    magnitude = np.abs(y)
    code = np.searchsorted(middles, magnitude, side="left")
    tie = (code < len(middles)) & (magnitude == middles[np.minimum(code, len(middles) - 1)]) & (code % 2 == 1)
    return np.copysign(grid[code + tie], y)


def exponent(amax: np.ndarray, name: str, rule: str) -> np.ndarray:
    """The exponent of the power of two of blocks with the largest magnitudes ``amax`` (float64, finite)."""
    values = VALUES[name]
    half, power = np.frexp(amax)  # half in [0.5, 1)
    if rule == "even":
        power = power + (np.rint(half * 2.0 ** (values.mantissa + 1)) == 2.0 ** (values.mantissa + 1))
    elif rule == "ceil":
        power = power + (half != 0.5)
    elif rule == "rceil":
        power = power + (amax > np.ldexp(values.largest / 2.0**values.top, power - 1))
    return np.where(amax == 0, -127, np.clip(power - 1 - values.top, -127, 127))


def reference(x: np.ndarray, name: str, rule: str = "floor") -> np.ndarray:
    """The matrix ``x`` (float32 or float64) quantized and dequantized in its dtype; NaN in blocks not finite."""
    if name in UNSCALED:
        finite = np.isfinite(x)
        return np.where(finite, element(name, np.where(finite, x, 0)), np.nan).astype(x.dtype)
    chosen, height, width = (MX | NVFP4 | REAL)[name]
    label = labels(x.shape, height or x.shape[0], width or x.shape[1])
    amax = np.zeros(label.max() + 1, x.dtype)
    np.maximum.at(amax, label, np.abs(x))  # keeps NaN
    bad = ~np.isfinite(amax)
    amax[bad] = 0
    y = np.where(bad[label], 0, x)
    with np.errstate(over="ignore", under="ignore"):
        if name in MX:
            shared = exponent(amax.astype(np.float64), chosen, rule)[label]
            after = np.ldexp(element(chosen, np.ldexp(y.astype(np.float64), -shared)), shared)
        elif name in NVFP4:
            after = two_levels(y, amax, label, np.abs(x[np.isfinite(x)]).max(initial=0))
        else:
            scale = np.maximum(amax / x.dtype.type(VALUES[chosen].largest), x.dtype.type(SMALLEST_REAL))[label]
            after = element(chosen, y / scale).astype(x.dtype) * scale
        return np.where(bad[label], np.nan, np.copysign(after, y)).astype(x.dtype)


def two_levels(
    x: np.ndarray, amax: np.ndarray, label: np.ndarray, largest: float, least: float = 2.0**-9
) -> np.ndarray:
    """NVFP4 in the order of operations of torchao; ``least`` is the smallest block scale, a number of E4M3."""
    real = x.dtype.type
    outer = np.maximum(real(largest) / real(2688), real(SMALLEST_TENSOR))
    inner = element("fp8_e4m3", np.clip(amax / real(6) / outer, real(least), real(448))).astype(x.dtype)[label]
    return element("fp4_e2m1", x * (real(1) / outer / inner)).astype(x.dtype) * (inner * outer)


def labels(shape: tuple[int, int], height: int, width: int) -> np.ndarray:
    """The number of the block of each element."""
    rows, columns = np.indices(shape)
    return rows // height * -(-shape[1] // width) + columns // width
