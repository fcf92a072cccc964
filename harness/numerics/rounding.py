"""Rounds magnitudes to the values of an element format, exactly, in three ways."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.numerics.keyed_random import DrawKey, bits
from harness.spec.formats import Element

_EXPONENT = {torch.float32: (torch.int32, 0x7F800000), torch.float64: (torch.int64, 0x7FF0000000000000)}


def round_to(y: Tensor, element: Element, rounding: str = "nearest_even", key: DrawKey | None = None) -> Tensor:
    """Return ``y`` (float32 or float64) rounded to the values of ``element``; saturates at its largest one.

    Clipped first, then rounded: nearest even, toward zero, or stochastically (up with the probability of the distance
    to the lower neighbour in units of the step, in multiples of 2**-24; unbiased for what is not clipped). Only
    stochastic rounding reads ``key``, whose halves broadcast against ``y``. The sign of zero is kept; what becomes of
    NaN is not defined.
    """
    units = y.abs().clamp_(max=element.largest)
    step = spacing(units, element)
    units.div_(step)  # exact: the step is a power of two
    if rounding == "nearest_even":
        units.round_()
    elif rounding == "toward_zero":
        units.floor_()
    else:
        assert key is not None
        whole = units.floor()
        units = whole + (uniform(key).to(y.dtype) < units - whole)
    return units.mul_(step).copysign_(y)


def spacing(magnitude: Tensor, element: Element) -> Tensor:
    """Return the distance of neighbouring values of ``element`` in the binade of ``magnitude`` (>= 0, at most the
    largest)."""
    integer, mask = _EXPONENT[magnitude.dtype]
    binade = (magnitude.view(integer) & mask).view(magnitude.dtype)
    return binade.clamp_(min=2.0**element.smallest_exponent).mul_(2.0**-element.mantissa_bits)


def uniform(key: DrawKey) -> Tensor:
    """Return uniform draws in [0, 1), multiples of 2**-24, float32, one for each pair of keys."""
    return ((bits(key.rows, key.columns) >> 8) & 0xFFFFFF).float() * 2.0**-24
