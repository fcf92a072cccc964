"""What standard normal draws of the engine look like, exactly, and how far sums over draws may lie off.

A draw is a cubic of the sum of four independent uniform bytes (docs/draws.md), so that its moments are finite sums
over 1,021 values. It is bounded, and so is every power of it: Bernstein's inequality then bounds the probability that
a sum lies far from its expectation, for every number of draws and without any normal approximation.

Source: Bernstein's inequality as in Boucheron, Lugosi, Massart 2013, Concentration Inequalities, theorem 2.10.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CUBIC, UNIT, BYTES, MEAN = 1112070, 5.773953759558026e-09, 4, 510

FALSE_ALARM = 1e-13
"""Probability that one test of draws as they should be raises an alarm. A run makes up to a million tests."""

BEYOND = 3.0
"""Where the tails begin whose share is tested."""


@dataclass(frozen=True)
class Moments:
    """Of one draw z: ``second`` E z^2, ``fourth`` E z^4, ``eighth`` E z^8, ``largest`` |z|."""

    second: float
    fourth: float
    eighth: float
    largest: float


@functools.cache
def draws() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (values, probabilities) of a draw, 1,021 each."""
    byte = np.full(256, 1 / 256)
    weights = functools.reduce(np.convolve, [byte] * BYTES)
    sums = np.arange(len(weights), dtype=np.float64) - MEAN
    return sums * (CUBIC + sums**2) * UNIT, weights


@functools.cache
def moments() -> Moments:
    """Return the moments of a draw."""
    values, weights = draws()
    second, fourth, eighth = (float(weights @ values**power) for power in (2, 4, 8))
    return Moments(second, fourth, eighth, float(np.abs(values).max()))


def share_beyond(limit: float) -> float:
    """Return P(|z| > limit)."""
    values, weights = draws()
    return float(weights[np.abs(values) > limit].sum())


def furthest(count: int, variance: float, largest: float) -> float:
    """Return how far the sum of ``count`` independent variables may lie from its expectation, but for
    :data:`FALSE_ALARM`: each has at most this ``variance``, and lies at most ``largest`` from its own expectation."""
    log = math.log(2 / FALSE_ALARM)
    return log * largest / 3 + math.sqrt((log * largest / 3) ** 2 + 2 * count * variance * log)
