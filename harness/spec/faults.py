"""Faults of accelerators as error models: several bits of a value, a lane that is stuck, and a published mix of both.

Source of the proportions: C.-H. Tung et al., "The Anatomy of Silent Data Corruption: GPU Error Pattern Study and
Modeling Guidance" (arXiv:2605.04213, 2026): of the silent corruptions of a data-center GPU under gate-level stuck-at
faults 1.01 % are NaN or infinity, fewer than 40 % of the bit-flip events flip a single bit, and the addresses that are
corrupted are periodic. How the other events divide by their number of bits is not said there; that is a field here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.spec.error_base import ErrorModel

RANDOM, BURST = "random", "burst"
PATTERNS = (RANDOM, BURST)
MOST_BITS = 16
"""Bits that one event may flip: all dtypes have as many."""

SINGLE, SPECIAL = 0.39, 0.0101
"""The published shares: "less than 40 %" of bit-flip events, 1.01 % of all."""


class _Struck(ErrorModel):
    """What strikes elements one by one with probability ``rate``."""

    rough = True
    breaks = True
    strength = "rate"

    def expected_share(self, level: float) -> float | None:
        """Return ``level``, the rate."""
        return level

    def _count(self, field: str, low: int, high: int, example: str) -> None:
        value = getattr(self, field)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._refuse(field, f"it is an integer from {low} to {high}", f"write for example {example}")


@dataclass(frozen=True)
class BitFlips(_Struck):
    """With probability ``rate`` ``count`` distinct bits of an element are inverted, drawn anew for each.

    ``random`` bits lie anywhere in the value, sign and exponent included; those of a ``burst`` lie side by side. All
    sets (all places of the burst) are equally likely. A flip may make infinity or NaN.
    """

    rate: float | None = None
    count: int = 2
    pattern: str = RANDOM

    name = "bit_flips"
    computed_by = "harness.numerics.faults:bit_flips"
    replayed_by = "harness.noise.replay.faults:bit_flips"
    formula = "bits(y) xor a mask of count distinct bits where u < rate, else y"
    expected = "anything from 2**-mantissa bits to NaN, in a share rate of the elements"

    def __post_init__(self) -> None:
        self._number("rate", 0, 1, "a rate is a fraction in [0, 1]")
        self._count("count", 1, MOST_BITS, "bit_flips(0.001, count=2)")
        if self.pattern not in PATTERNS:
            raise self._refuse("pattern", "it is random or burst", "write for example bit_flips(0.001, 2, burst)")


@dataclass(frozen=True)
class StuckLane(ErrorModel):
    """In a share ``rate`` of the rows every ``period``-th element reads ``value`` (unit of y): a lane that is stuck.

    Which of the ``period`` lanes it is belongs to the site and is the same in every row of a run. A row of w elements
    has w / period of them, rounded up or down, so that the share of elements depends on the site. Rows whose width
    grows with the keys (scores) have no lanes and are refused.
    """

    rate: float | None = None
    period: int = 32
    value: float = 0.0

    name = "stuck_lane"
    computed_by = "harness.numerics.faults:stuck_lane"
    replayed_by = "harness.noise.replay.faults:stuck_lane"
    formula = "value where u(row) < rate and column % period = lane(site), else y"
    expected = "|value - y| / |y| in one of period elements of a share rate of the rows"
    strength = "rate"
    row_statistic = True  # the place of an element in its row decides

    def __post_init__(self) -> None:
        self._number("rate", 0, 1, "a rate is a fraction in [0, 1]")
        self._number("value", -math.inf, math.inf, "a stuck value is a finite number")
        if isinstance(self.period, bool) or not isinstance(self.period, int) or not 1 <= self.period < 2**31:
            raise self._refuse("period", "it is an integer from 1, below 2**31", "write stuck_lane(0.001, period=32)")


@dataclass(frozen=True)
class FaultMix(_Struck):
    """With probability ``rate`` an element has an event: a share ``special`` of them reads NaN, infinity or -infinity
    (a third each), the others have bits flipped, a share ``single`` of these one, the rest 2 to ``most`` distinct ones,
    each number equally likely. The defaults are the published shares; a flip may make infinity or NaN as well.
    """

    rate: float | None = None
    single: float = SINGLE
    special: float = SPECIAL
    most: int = 4

    name = "fault_mix"
    computed_by = "harness.numerics.faults:fault_mix"
    replayed_by = "harness.noise.replay.faults:fault_mix"
    formula = "where u < rate: NaN or +-infinity in a share special, else bits(y) with 1 or 2 to most bits flipped"
    expected = "anything from 2**-mantissa bits to NaN, in a share rate of the elements"

    def __post_init__(self) -> None:
        self._number("rate", 0, 1, "a rate is a fraction in [0, 1]")
        self._number("single", 0, 1, "a share is a fraction in [0, 1]")
        self._number("special", 0, 1, "a share is a fraction in [0, 1]")
        self._count("most", 2, MOST_BITS, "fault_mix(0.001, most=4)")
