"""Chooses at random what is looked at again, by a rule that follows from the records stored so far.

Nobody can foresee a hash over records that are not there yet, and anybody can repeat it afterwards. The digest of a
run's first n records (in the order they were stored) is SHA-256 over their own checksums; a choice is another
SHA-256 over that digest and what is chosen for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

STRATA = 3
"""Beginning, middle and end of what is left to do at a level: one batch of each is audited."""

FIRST_STEPS = (0, 1)
"""Forwards of an audited batch that are always audited: the prefill, and the first step that has a cache."""

GROWTH = 3
"""Every window of later forwards is so many times as long as the one before, so that short and long answers both have
audited steps late in them."""


@dataclass(frozen=True)
class Trail:
    """What was stored when something was chosen: the number of records, and the digest over their checksums."""

    records: int
    digest: str

    def number(self, *labels: str | int | float) -> int:
        """Return 64 random bits for ``labels``: the same for the same trail and labels, unrelated for others."""
        text = json.dumps([self.records, self.digest, *labels])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def below(self, limit: int, *labels: str | int | float) -> int:
        """Return a number from 0 to ``limit - 1``."""
        return self.number(*labels) % limit


class Walk:
    """Makes trails: takes the checksums of records in the order they were stored."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self.records = 0

    def add(self, checksum: str) -> None:
        """Go one record on: SHA-256 over the checksums, each ended by a line break."""
        self._hasher.update(f"{checksum}\n".encode())
        self.records += 1

    @property
    def trail(self) -> Trail:
        """Return the trail of what was added so far."""
        return Trail(self.records, self._hasher.hexdigest())


@dataclass(frozen=True)
class Choice:
    """Why a batch is audited: it is number ``place`` of ``of`` batches of ``level`` (from 0), chosen when the records
    of ``trail`` were stored."""

    level: float
    place: int
    of: int
    trail: Trail

    @property
    def stratum(self) -> range:
        """Return the places of the same stratum, of which one is chosen."""
        number = next(k for k in range(STRATA) if self.place < (k + 1) * self.of // STRATA)
        return range(number * self.of // STRATA, (number + 1) * self.of // STRATA)

    @property
    def holds(self) -> bool:
        """Return whether the trail chooses this place, where none before it in its stratum was chosen.

        The last place of a stratum always is, so that each place has the same probability beforehand.
        """
        left = self.stratum.stop - self.place
        return self.trail.below(left, "batch", self.level, self.place, self.of) == 0

    def audits(self, step: int) -> bool:
        """Return whether forward number ``step`` of the batch (0 is the prefill) is audited.

        The first two are, and one of each window behind them: [2, 5), [5, 14), [14, 41), [41, 122) and so on.
        """
        if step in FIRST_STEPS:
            return True
        start, width = len(FIRST_STEPS), GROWTH
        while step >= start + width:
            start, width = start + width, width * GROWTH
        return step == start + self.trail.below(width, "step", self.level, self.place, start)

    def to_json(self) -> dict[str, object]:
        """Return a plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Choice:
        """Return the inverse of :meth:`to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        trail = data["trail"]
        if not isinstance(trail, dict):
            raise TypeError(f"trail {trail!r}")
        return cls(**{**data, "trail": Trail(**trail)})  # type: ignore[arg-type]


class Chooser:
    """Chooses, batch by batch and as late as possible, which of a level's batches are audited: one of each stratum."""

    def __init__(self) -> None:
        self._chosen: set[tuple[float, int, int]] = set()

    def choose(self, level: float, place: int, of: int, trail: Trail) -> Choice | None:
        """Return the choice of batch number ``place`` of ``of``, None where it is not audited."""
        choice = Choice(level, place, of, trail)
        stratum = level, of, choice.stratum.start
        if stratum in self._chosen or not choice.holds:
            return None
        self._chosen.add(stratum)
        return choice
