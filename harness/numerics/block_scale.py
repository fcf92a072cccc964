"""The scale of a block from its largest magnitude: powers of two by the four rules, float32, and NVFP4's two levels."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.numerics.rounding import round_to
from harness.spec.formats import ELEMENTS, LARGEST_POWER, SMALLEST_POWER, Element

E4M3 = ELEMENTS["fp8_e4m3"]
SMALLEST_REAL = 2.0**-149
"""The least float32 scale: with it, blocks of the smallest subnormals are still exact."""

SMALLEST_TENSOR_SCALE = 2.0**-118
"""The least tensor scale of NVFP4: its reciprocal over the least block scale, 2**-9, must be finite."""


def power_of_two(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``2**exponent`` in ``dtype`` (float32 or float64) for int32 exponents in [-127, 127]; exact, built from
    bits."""
    if dtype == torch.float64:
        return ((exponent.long() + 1023) << 52).view(torch.float64)
    return torch.where(exponent > -127, (exponent + 127) << 23, 1 << 22).view(torch.float32)


def shared_exponent(largest: Tensor, element: Element, rule: str) -> Tensor:
    """Return the exponent of a block's E8M0 scale, int32 in [-127, 127], from its largest magnitude (>= 0, finite).

    With e = floor(log2(largest)) and s = largest / 2**e in [1, 2), minus the exponent of the element's largest value:

    * ``floor``: e. Source: OCP MX v1.0, section 6.3. Magnitudes beyond the largest value saturate.
    * ``even``: e + 1 where s rounds up to 2 in the mantissa of the element, else e.
    * ``ceil``: ceil(log2(largest)).
    * ``rceil``: the least exponent with which nothing saturates.

    Blocks of zeros get the least exponent. Taken from the bits: a logarithm in floating point is wrong just below
    powers of two.
    """
    half, exponent = torch.frexp(largest)
    significand, exponent = 2 * half, exponent - 1
    if rule == "even":
        up = significand >= 2 - 2.0 ** -(element.mantissa_bits + 1)
    elif rule == "ceil":
        up = significand > 1
    elif rule == "rceil":
        up = significand > element.largest / 2.0**element.largest_exponent
    else:
        up = torch.zeros_like(significand, dtype=torch.bool)
    shared = torch.where(largest > 0, exponent + up - element.largest_exponent, SMALLEST_POWER)
    return shared.clamp(SMALLEST_POWER, LARGEST_POWER).to(torch.int32)


def real_scale(largest: Tensor, element: Element) -> Tensor:
    """Return ``largest / element.largest``, at least :data:`SMALLEST_REAL`."""
    return (largest / element.largest).clamp(min=SMALLEST_REAL)


def tensor_scale(largest: Tensor, element: Element) -> Tensor:
    """Return NVFP4's float32 scale: the largest magnitude of the tensor over (448 x the element's largest value)."""
    return (largest / (E4M3.largest * element.largest)).clamp(min=SMALLEST_TENSOR_SCALE)


def block_scale(largest: Tensor, element: Element, outer: Tensor) -> Tensor:
    """Return NVFP4's E4M3 scale of a block, under the tensor scale ``outer``: nearest even, subnormals included.

    Never 0: a block far below the others has the smallest positive E4M3 number, 2**-9.
    """
    wanted = (largest / element.largest) / outer
    return round_to(wanted.clamp(E4M3.step, E4M3.largest), E4M3)
