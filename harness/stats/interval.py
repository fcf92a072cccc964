"""The one interval type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


def _json_number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Interval:
    """An estimate with its lower and upper bound, all fractions (0.05 is 5 %, or 5 points for a difference).

    Without any data the estimate is NaN and the bounds are the whole range the quantity can take.
    A quantity that is not defined at all is ``None`` instead of an interval.
    """

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON: a NaN or infinite number becomes ``None``."""
        return {
            "estimate": _json_number(self.estimate),
            "low": _json_number(self.low),
            "high": _json_number(self.high),
        }
