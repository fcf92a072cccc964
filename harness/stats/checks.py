"""Whether scores are what they are declared to be: one clear error each, before any number is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.exceptions import HarnessError

Floats = NDArray[np.float64]


class ScoreError(HarnessError, ValueError):
    """Scores that cannot be judged: outside their range, NaN, items twice, unequal seeds. Exit code 2."""


@dataclass(frozen=True)
class ScoreRange:
    """The range that the caller declares for its scores, ends included; infinite ends where there are none.

    ``reach`` is the most by which one item can change: the whole width for scores (the default), half the width for
    their differences, see :attr:`differences`. Raises :class:`ScoreError` unless low < high.
    """

    low: float = 0.0
    high: float = 1.0
    reach: float | None = None

    def __post_init__(self) -> None:
        """Check the ends."""
        if not self.low < self.high:
            raise ScoreError(f"score range {self.low!r} to {self.high!r}", "low lies below high", "exchange them")

    @property
    def width(self) -> float:
        """high - low; infinite without ends."""
        return self.high - self.low

    @property
    def most(self) -> float:
        """``reach``, or the width where none was given; infinite without ends."""
        return self.width if self.reach is None else self.reach

    @property
    def differences(self) -> ScoreRange:
        """The range of the difference of two such scores."""
        return ScoreRange(-self.width, self.width, reach=self.width)

    def check(self, values: ArrayLike, name: str) -> Floats:
        """Return ``values`` as floats of any shape. Raises :class:`ScoreError` on NaN or a value outside the range."""
        array = _floats(values, name)
        if not np.isfinite(array).all():
            bad = array[~np.isfinite(array)][0]
            raise ScoreError(
                f"{name} holds {float(bad)!r}",
                "a score is a finite number",
                "leave out what was not measured, on both sides",
            )
        outside = (array < self.low) | (array > self.high)
        if outside.any():
            raise ScoreError(
                f"{name} holds {float(array[outside][0])!r}",
                f"a score lies in [{self.low:g}, {self.high:g}]",
                "score again, or declare the range that applies",
            )
        return array


FRACTIONS = ScoreRange(0.0, 1.0)
"""Right and wrong, and means of them."""

DIFFERENCES = FRACTIONS.differences
"""Differences of fractions: -1 to 1."""

REAL = ScoreRange(-math.inf, math.inf)
"""Log-likelihoods and rewards without bounds."""


def _floats(values: ArrayLike, name: str) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ScoreError(
            f"{name} is not an array of numbers",
            "every item has the same number of seeds, each with one score",
            "use the seeds that all items have",
        ) from None


def vector(values: ArrayLike, name: str, limits: ScoreRange = REAL) -> Floats:
    """Return ``values`` as a checked vector (items,). Raises :class:`ScoreError`."""
    array = limits.check(values, name)
    if array.ndim != 1:
        raise ScoreError(f"{name} has shape {array.shape}", "one number per item is needed", "average over seeds first")
    return array


def matrix(values: ArrayLike, name: str, limits: ScoreRange = REAL) -> Floats:
    """Return ``values`` as a checked matrix (items, seeds). Raises :class:`ScoreError`."""
    array = limits.check(values, name)
    if array.ndim != 2:
        raise ScoreError(f"{name} has shape {array.shape}", "items by seeds are needed", "give one row per item")
    return array


def same_items(first: Floats, second: Floats) -> None:
    """Raise :class:`ScoreError` unless both vectors are equally long."""
    if len(first) != len(second):
        raise ScoreError(
            f"{len(first)} items on one side and {len(second)} on the other",
            "both sides hold the same items in the same order",
            "pair them by item first",
        )


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores (items, seeds) with the names of rows and columns, both ascending."""

    items: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: Floats


def score_table(rows: Iterable[tuple[str, int, float]], limits: ScoreRange = FRACTIONS) -> ScoreTable:
    """Return the table of ``rows`` (item, seed, score); every item must have every seed once.

    Raises :class:`ScoreError` on an item that has a seed twice, on unequal seeds, on NaN and on a score outside
    ``limits``. Without rows the table has shape (0, 0).
    """
    cells: dict[tuple[str, int], float] = {}
    for item, seed, score in rows:
        if (item, seed) in cells:
            raise ScoreError(f"item {item} has seed {seed} twice", "an item counts once", "drop the duplicate")
        cells[item, seed] = score
    items = tuple(sorted({item for item, _ in cells}))
    seeds = tuple(sorted({seed for _, seed in cells}))
    _check_equal_seeds(items, seeds, cells.keys())
    scores = [[cells[item, seed] for seed in seeds] for item in items]
    return ScoreTable(items, seeds, limits.check(np.reshape(scores, (len(items), len(seeds))), "the table"))


def _check_equal_seeds(items: Sequence[str], seeds: Sequence[int], cells: Iterable[tuple[str, int]]) -> None:
    present = set(cells)
    for item in items:
        lacking = [seed for seed in seeds if (item, seed) not in present]
        if lacking:
            raise ScoreError(
                f"item {item} lacks seed {lacking[0]}", "every item has the same seeds", "use the seeds that all have"
            )
