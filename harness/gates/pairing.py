"""Outcomes paired by item: the score matrices that the intervals are computed from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from harness.exceptions import HarnessError
from harness.record import ERROR, TRUNCATED, UNPARSED, Arm, Outcome
from harness.stats.two_way import LEAST_SEEDS

Floats = NDArray[np.float64]
Cells = Mapping[str, Mapping[int, Outcome]]
"""The outcomes of one arm at one level: item -> seed -> outcome."""

MISSING = "missing"


def seeds_of(cells: Cells) -> tuple[int, ...]:
    """Return every noise seed that occurs, ascending."""
    return tuple(sorted({seed for item in cells.values() for seed in item}))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two aligned score matrices (items, seeds), fractions in [0, 1], NaN where nothing was measured.

    The rows are the union of both sides' items. ``first`` is the judged side, ``second`` its reference. ``shared``
    says that all items share the draws of a noise seed, so that seeds are crossed with items. ``clusters`` (items,)
    numbers the cluster of every row, ``None`` where every item stands by itself.
    """

    first: Floats
    second: Floats
    shared: bool = False
    clusters: NDArray[np.int64] | None = None

    @property
    def total(self) -> int:
        """Items that either side has."""
        return len(self.first)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which rows are measured on both sides with every seed, bool (items,)."""
        gaps = np.concatenate([np.isnan(self.first), np.isnan(self.second)], axis=1)
        complete: NDArray[np.bool_] = np.logical_not(gaps.any(axis=1))
        return complete

    @property
    def n(self) -> int:
        """Items that are measured on both sides with every seed."""
        return int(self.measured.sum())

    @property
    def binary(self) -> bool:
        """True for one draw per side with scores 0 and 1: score intervals for counts apply."""
        one = self.first.shape[1] == self.second.shape[1] == 1
        return one and all(bool(np.isin(side, (0.0, 1.0)).all()) for side in self.cells())

    def cells(self) -> tuple[Floats, Floats]:
        """Return the measured rows of both sides."""
        rows = self.measured
        return self.first[rows], self.second[rows]

    def means(self) -> tuple[Floats, Floats]:
        """Return per-item means over seeds, of the measured rows of both sides."""
        first, second = self.cells()
        return first.mean(axis=1), second.mean(axis=1)

    def flips(self) -> tuple[int, int]:
        """Return (lost, gained): measured (item, seed) cells that are right in the reference only, or here only."""
        first, second = self.cells()
        return int((first < second).sum()), int((first > second).sum())

    def filled(self, first: float, second: float) -> Pairs:
        """Return the rows with every unmeasured cell replaced; what was measured keeps its score."""
        return Pairs(
            np.where(np.isnan(self.first), first, self.first),
            np.where(np.isnan(self.second), second, self.second),
            self.shared,
            self.clusters,
        )

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """The clusters of the measured rows, ``None`` where each holds one of them, so that items are independent."""
        if self.clusters is None:
            return None
        found = self.clusters[self.measured]
        return None if len(np.unique(found)) == len(found) else found

    @property
    def crossed(self) -> bool:
        """True where the spread over noise seeds is part of the interval: shared draws, and seeds enough to know it."""
        return self.shared and max(self.first.shape[1], self.second.shape[1]) >= LEAST_SEEDS


class Flip(NamedTuple):
    """An (item, seed) outcome that one side alone has right; ``before`` is the reason of the reference's."""

    item: str
    seed: int
    gained: bool
    before: str


def flipped_outcomes(first: Cells, second: Cells) -> tuple[Flip, ...]:
    """Return the :class:`Flip` of every cell measured on both sides that is right on one only, by item and seed."""
    items = sorted(set(first) & set(second))
    seeds = tuple(sorted({*seeds_of(first)} & {*seeds_of(second)}))
    ours, theirs = _scores(first, items, seeds), _scores(second, items, seeds)
    apart = (ours != theirs) & ~np.isnan(ours) & ~np.isnan(theirs)
    return tuple(
        Flip(item, seed, bool(ours[row, column] > theirs[row, column]), second[item][seed].reason)
        for row, column in np.argwhere(apart)
        for item, seed in [(items[row], seeds[column])]
    )


def _scores(cells: Cells, items: list[str], seeds: tuple[int, ...]) -> Floats:
    """(items, seeds), NaN where nothing was measured; an outcome that many cells share is looked at once."""
    nothing: Mapping[int, Outcome] = {}
    rows = [cells.get(item, nothing) for item in items]
    found = [row.get(seed) for row in rows for seed in seeds]
    distinct = {id(outcome): outcome for outcome in found}
    wrong = {key for key, outcome in distinct.items() if not _sound(outcome)}
    if wrong:
        number, outcome = next((place, each) for place, each in enumerate(found) if id(each) in wrong)
        row, column = divmod(number, len(seeds))
        raise HarnessError(
            f"score {outcome and outcome.right!r} of item {items[row]}, seed {seeds[column]}",
            "a score lies in [0, 1]",
            "score the run again",
        )
    values = {key: outcome.right if _measured(outcome) else np.nan for key, outcome in distinct.items()}
    matrix: Floats = np.array([values[id(outcome)] for outcome in found], dtype=np.float64)
    return matrix.reshape(len(items), len(seeds))


def _measured(outcome: Outcome | None) -> TypeGuard[Outcome]:
    return outcome is not None and outcome.measured


def _sound(outcome: Outcome | None) -> bool:
    return not _measured(outcome) or 0 <= outcome.right <= 1


def pair(
    first: Cells,
    second: Cells,
    shared: bool = False,
    rows: Sequence[str] | None = None,
    clusters: Mapping[str, str] | None = None,
) -> Pairs:
    """Align two sides by item hash; the columns are each side's own seeds. ``rows``: these items, in this order
    (default: all, by hash). ``clusters``: item -> cluster; an item without one is its own. Raises on a score outside
    [0, 1]."""
    items = sorted(set(first) | set(second)) if rows is None else list(rows)
    matrices = _scores(first, items, seeds_of(first)), _scores(second, items, seeds_of(second))
    return Pairs(*matrices, shared, _numbered(items, clusters) if clusters else None)


def _numbered(items: Sequence[str], clusters: Mapping[str, str]) -> NDArray[np.int64]:
    numbers: dict[tuple[bool, str], int] = {}
    keys = [(item in clusters, clusters.get(item, item)) for item in items]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def unscored(cells: Cells, items: set[str], seeds: tuple[int, ...]) -> dict[str, int]:
    """Return how many (item, seed) cells have no score, by reason: unparsed, truncated, error, missing."""
    nothing: Mapping[int, Outcome] = {}
    rows = [cells.get(item, nothing) for item in items]
    counts = Counter(row[seed].reason if seed in row else MISSING for row in rows for seed in seeds)
    return {reason: counts[reason] for reason in (UNPARSED, TRUNCATED, ERROR, MISSING)}


def pairing_problem(candidate: Arm, baseline: Arm, level: float) -> str | None:
    """Return why the arms cannot be paired at ``level``, or ``None``: a side without it, or other noise seeds."""
    for role, arm in (("candidate", candidate), ("baseline", baseline)):
        if not arm.outcomes.get(level):
            return f"{role}: no outcomes at level {level:g}"
    ours, theirs = seeds_of(candidate.outcomes[level]), seeds_of(baseline.outcomes[level])
    if ours != theirs:
        return f"noise seeds differ: candidate {_listed(ours)}, baseline {_listed(theirs)}"
    if not ours:
        return f"no seed has an outcome at level {level:g}"
    if not set(candidate.outcomes[level]) & set(baseline.outcomes[level]):
        return "no item is in both arms"
    return None


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds)) or "none"
