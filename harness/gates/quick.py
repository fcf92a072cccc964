"""The declared quick check: a gate on the first items, in the baseline's own seeded order, and the first noise seeds.

Who declares it chooses how many, never which ones. Undeclared, fewer items or seeds than the baseline has are no
evidence, as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from harness.exceptions import HarnessError, NotComparableError
from harness.gates.pairing import seeds_of
from harness.gates.result import GateResult
from harness.record import Arm
from harness.runs.item_order import choice_order


@dataclass(frozen=True)
class QuickCheck:
    """The first ``items`` of ``items_of`` in the order of ``item_seed``, with the first ``noise_seeds`` of ``seeds_of``
    at every level above 0, and at level 0 where answers were sampled."""

    items: int
    items_of: int
    noise_seeds: int
    seeds_of: int
    item_seed: int

    @classmethod
    def declared(cls, baseline: Arm, item_seed: int, items: int | None, noise_seeds: int | None) -> QuickCheck | None:
        """Return the check of that many items and seeds (None: all) of ``baseline``; ``None`` where that is all of it.

        Raises :class:`HarnessError` for more than there are, or fewer than one.
        """
        everything = len(_items(baseline))
        seeds = max((len(seeds_of(cells)) for cells in baseline.outcomes.values()), default=1)
        for option, given, most, what in (
            ("--items", items, everything, "items"),
            ("--noise-seeds", noise_seeds, seeds, "noise seeds"),
        ):
            if given is not None and not 1 <= given <= most:
                raise HarnessError(
                    f"{option} {given}",
                    f"{baseline.label} has {most} {what if most != 1 else what[:-1]}, and at least 1 is needed",
                    f"give a number from 1 to {most}, or leave {option} out for all",
                )
        found = cls(items or everything, everything, noise_seeds or seeds, seeds, item_seed)
        return None if (found.items, found.noise_seeds) == (everything, seeds) else found

    @property
    def label(self) -> str:
        """What every report says first."""
        return (
            f"quick check, declared: the first {self.items} of {self.items_of} items in the baseline's own order"
            f" (item seed {self.item_seed}), {self.noise_seeds} of {self.seeds_of} noise seeds; not the whole baseline"
        )

    def chosen(self, baseline: Arm) -> tuple[str, ...]:
        """Return the items of the check, in order."""
        return choice_order(_items(baseline), self.item_seed)[: self.items]

    def part_of(self, baseline: Arm) -> Arm:
        """Return ``baseline`` with the items and noise seeds of the check only."""
        kept = set(self.chosen(baseline))
        outcomes = {
            level: {
                item: {seed: row[seed] for seed in seeds_of(cells)[: self.noise_seeds] if seed in row}
                for item, row in cells.items()
                if item in kept
            }
            for level, cells in baseline.outcomes.items()
        }
        return replace(baseline, outcomes=outcomes)

    def check(self, candidate: Arm, baseline: Arm, asked: Sequence[str] | None = None) -> None:
        """Raise :class:`NotComparableError` where ``candidate`` is not of exactly the items and seeds of the check.

        ``asked`` are the items that were asked of it (default: those it has).
        """
        has, wanted = set(_items(candidate) if asked is None else asked), set(self.chosen(baseline))
        if has != wanted:
            raise NotComparableError(
                f"{candidate.label}: {len(has - wanted)} of its {len(has)} items are not among the first {self.items}"
                f" of {baseline.label} (item seed {self.item_seed}), and {len(wanted - has)} of those are not in it",
                "a quick check is on the items that the baseline's own order gives, not on others",
                "give the checkpoint, so that they are evaluated",
            )
        for level, cells in candidate.outcomes.items():
            seeds = seeds_of(baseline.outcomes.get(level, {}))[: self.noise_seeds]
            if seeds and seeds_of(cells) != seeds:
                raise NotComparableError(
                    f"{candidate.label} has the noise seeds {seeds_of(cells)} at level {level:g}",
                    f"this quick check is on {seeds}",
                    "give the checkpoint, so that they are evaluated",
                )

    def said(self, result: GateResult) -> GateResult:
        """Return ``result`` with the check in its first lines and in its JSON."""
        return replace(result, notes=(self.label, *result.notes), quick=asdict(self) | {"label": self.label})


def _items(arm: Arm) -> set[str]:
    return {item for cells in arm.outcomes.values() for item in cells}
