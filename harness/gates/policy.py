"""What a gate demands."""

from __future__ import annotations

from dataclasses import dataclass

from harness.exceptions import HarnessError
from harness.spec.text import nearest

AXES = ("quantization", "dtype", "attention", "engine")
"""Fields of the measurement key that may be declared as the axis of a comparison: how the model computes. Data,
template, scorer, decoding and noise say what is measured, and must agree."""


def check_fraction(name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`HarnessError` unless ``low <= value < high`` (NaN fails too)."""
    if not low <= value < high:
        raise HarnessError(
            f"{name} {value!r}",
            f"it is a fraction, at least {low:g} and below {high:g}",
            f"write 0.03 for 3 points, as in {name}=0.03",
        )


def check_alpha(alpha: float) -> None:
    """Raise :class:`HarnessError` unless ``alpha`` is a usable one-sided level."""
    if not 0 < alpha < 0.5:
        raise HarnessError(f"alpha {alpha!r}", "the one-sided level lies between 0 and 0.5", "use 0.05")


@dataclass(frozen=True)
class GatePolicy:
    """The rules of one gate; fractions throughout.

    ``margin``: by how much the candidate may fall below the baseline at the same level. ``alpha``: level of
    each one-sided bound. ``min_retention``: the least accepted acc(level) / acc(0) of the candidate, or ``None``
    to report it only. ``floor``: a clean accuracy whose lower bound is below it shows nothing that could be lost.
    ``bootstrap_resamples``: 0 leaves the bootstrap out. ``across``: the one field of the measurement key (of
    :data:`AXES`) along which candidate and baseline are meant to differ.

    Raises :class:`HarnessError` on a value outside its range.
    """

    margin: float = 0.03
    alpha: float = 0.05
    min_retention: float | None = None
    floor: float = 0.10
    bootstrap_resamples: int = 10_000
    bootstrap_seed: int = 0
    across: str | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        check_fraction("margin", self.margin, 0.0, 1.0)
        check_fraction("floor", self.floor, 0.0, 1.0)
        check_alpha(self.alpha)
        if self.min_retention is not None and not 0 < self.min_retention <= 1:
            raise HarnessError(
                f"min_retention {self.min_retention!r}",
                "it is a fraction above 0 and at most 1",
                "use 0.95 or leave it out",
            )
        if self.across is not None and self.across not in AXES:
            raise HarnessError(f"across {self.across!r}", nearest(self.across, AXES))
        for name in ("bootstrap_resamples", "bootstrap_seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise HarnessError(f"{name} {value!r}", "it is a whole number, at least 0", f"leave {name} out")
