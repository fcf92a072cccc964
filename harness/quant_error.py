"""What quantization did to a tensor, as numbers. The one definition of these metrics (standard library only).

With x the finite elements, q their quantized values and e = q - x:

* ``sqnr_db``: 10 log10(sum x^2 / sum e^2), in dB; infinite where nothing changed.
* ``dead_zone``: share of the non-zero x with q = 0 (fraction).
* ``saturation``: share of the x beyond the largest value of their block, so that they were clipped before rounding.
* ``rms_relative``: sqrt(sum e^2 / sum x^2) (fraction), the same as the SQNR on another scale.
* ``median_relative``, ``mean_relative``: of |e| / |x| over the non-zero x (fraction). They count every element of the
  dead zone as 100 %, so that they are reported and never used to decide.
* ``cosine``: sum x q / sqrt(sum x^2 sum q^2).

A ratio over nothing is NaN.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class QuantError:
    """The metrics of one tensor, or of several taken together, and what they are out of.

    ``elements`` counts all, ``zeros`` those that were 0 before, ``spoiled`` those whose block held NaN or infinity
    (they are in no metric), ``bad_blocks`` those blocks.
    """

    elements: int
    zeros: int
    spoiled: int
    bad_blocks: int
    sqnr_db: float
    dead_zone: float
    saturation: float
    rms_relative: float
    median_relative: float
    mean_relative: float
    cosine: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary; NaN and infinity as their names, which JSON has no numbers for."""
        return {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> QuantError:
        """Return the inverse of :meth:`to_json`."""
        numbers: dict[str, Any] = {
            name: float(value) if isinstance(value, str) else value for name, value in data.items()
        }
        return cls(**numbers)


def sqnr_db(signal: float, error: float) -> float:
    """Return 10 log10(``signal`` / ``error``) for energies; infinite without error, NaN without signal.

    Minus infinity where results were too large for their dtype, so that the error is infinite.
    """
    if signal <= 0:
        return math.nan
    if error == math.inf:
        return -math.inf if signal < math.inf else math.nan
    return 10 * math.log10(signal / error) if error > 0 else math.inf
