"""What a simulated coverage is, and the tables that it is simulated from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.stats.bootstrap import private_generator
from harness.stats.interval import Interval
from harness.stats.proportion import wilson

NOMINAL = 0.95
ALPHA = (1 - NOMINAL) / 2
"""Two-sided 95 %: each bound one-sided at 2.5 %."""

_SURE = 0.0005
"""One-sided level of the binomial interval of a simulated share: one false alarm in a thousand cells."""

SIZES = (10, 50, 200, 1319)
ACCURACIES = (0.02, 0.15, 0.75, 0.98, 1.0)


@dataclass(frozen=True)
class Effort:
    """How much is simulated: repetitions per cell, resamples per bootstrap, and what is affordable: sizes, and
    (accuracy, standard deviation of a seed's common shift of every item's probability; fractions) for differences and
    retentions under shared draws, whose intervals cost most."""

    name: str
    tables: int
    matrices: int
    ratios: int
    bootstraps: int
    resamples: int
    sizes: tuple[int, ...] = SIZES
    bootstrap_sizes: tuple[int, ...] = (10, 50, 200)
    shared_cells: tuple[tuple[float, float], ...] = ((0.15, 0.02), (0.75, 0.0), (0.75, 0.05), (0.98, 0.05))
    ratio_cells: tuple[tuple[float, float], ...] = ((0.9, 0.05),)


FAST = Effort("fast", tables=1000, matrices=400, ratios=200, bootstraps=300, resamples=400)
THOROUGH = Effort(
    "thorough",
    tables=20_000,
    matrices=5_000,
    ratios=5_000,
    bootstraps=2_000,
    resamples=1_000,
    bootstrap_sizes=SIZES,
    shared_cells=tuple((accuracy, spread) for accuracy in (0.15, 0.75, 0.98) for spread in (0.0, 0.02, 0.05)),
    ratio_cells=tuple((accuracy, spread) for accuracy in (0.5, 0.9) for spread in (0.0, 0.05)),
)


@dataclass(frozen=True)
class Setting:
    """What one cell simulates; ``spread`` says it in words (discordance, seed variance)."""

    n: int
    accuracy: float | None
    spread: str


@dataclass(frozen=True)
class Coverage:
    """How often an interval of nominal 95 % held the truth (fractions).

    ``share`` is exact with ``repetitions`` 0, else it has the 99.9 % binomial interval of the simulation. It must
    lie inside ``pinned``; an interval ``shown`` only to be seen failing has no such duty.
    """

    interval: str
    setting: Setting
    share: Interval
    repetitions: int
    pinned: tuple[float, float] = (0.0, 1.0)
    shown: bool = False

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against ``pinned``."""
        low, high = self.pinned
        return self.share.high >= low and self.share.low <= high

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {
            "interval": self.interval,
            **asdict(self.setting),
            "coverage": self.share.to_json(),
            "repetitions": self.repetitions,
            "pinned": list(self.pinned),
            "shown_failing": self.shown,
            "holds": self.holds,
        }


def simulated(covered: float, repetitions: int) -> Interval:
    """Return the share ``covered / repetitions`` with its binomial interval."""
    return wilson(covered, repetitions, _SURE)


def exact(share: float) -> Interval:
    """Return a share that was computed, not simulated."""
    return Interval(share, share, share)


Cell = Callable[[], Sequence[Coverage]]
"""Simulates one setting for all the intervals that are compared there."""


@dataclass(frozen=True)
class Stage:
    """Cells of one kind, for a progress bar and a table."""

    name: str
    cells: tuple[Cell, ...]


def holds_truth(found: Interval | None, truth: float) -> bool:
    """Return whether the interval holds ``truth``; an undefined one claims nothing and is not wrong."""
    return found is None or found.low - 1e-12 <= truth <= found.high + 1e-12


@dataclass(frozen=True)
class PairShares:
    """True shares of the four kinds of pairs, first index the judged outcome, second the reference."""

    p11: float
    gained: float
    lost: float
    p00: float

    @classmethod
    def of(cls, accuracy: float, discordance: float) -> PairShares:
        """Return the reference has ``accuracy``; discordant pairs are lost and gained alike as far as it leaves
        room."""
        lost, gained = min(discordance / 2, accuracy), min(discordance / 2, 1 - accuracy)
        return cls(accuracy - lost, gained, lost, max(0.0, 1 - accuracy - gained))

    @property
    def difference(self) -> float:
        """gained - lost."""
        return self.gained - self.lost

    @property
    def ratio(self) -> float:
        """Judged accuracy / reference accuracy."""
        return (self.p11 + self.gained) / (self.p11 + self.lost)

    def tables(self, n: int, count: int, label: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return distinct tables (k, 4) of ``n`` pairs in the order of the fields, and how often each came in
        ``count``."""
        rng = private_generator(0, label)
        drawn = rng.multinomial(n, [self.p11, self.gained, self.lost, self.p00], size=count)
        distinct, times = np.unique(drawn, axis=0, return_counts=True)
        return distinct, times
