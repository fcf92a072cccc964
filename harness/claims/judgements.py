"""The six verdicts, and what a judged claim says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.claims.model import RESTS_ON, Claim, Comparison

SUPPORTED, SINGLE_SEED, NOT_ESTABLISHED = "supported", "supported_single_seed", "not_established"
VOID, CONFOUNDED, FALSE = "void", "confounded", "false"
VERDICTS = (SUPPORTED, SINGLE_SEED, NOT_ESTABLISHED, VOID, CONFOUNDED, FALSE)

PARTS = (FALSE, VOID, CONFOUNDED, NOT_ESTABLISHED, SINGLE_SEED, SUPPORTED)
"""A claim that rests on several comparisons is a conjunction: the first of these among its parts is its verdict."""

READINGS = (NOT_ESTABLISHED, CONFOUNDED, VOID, SINGLE_SEED, SUPPORTED, FALSE)
"""Contradictory values give several readings of one comparison: the first of these among them is its verdict."""


def first_of(order: tuple[str, ...], found: list[str]) -> str:
    """Return the first verdict of ``order`` that was found."""
    return min(found, key=order.index)


@dataclass(frozen=True)
class Numbers:
    """What was recomputed for one reading, in the unit of the metric (percentage points for accuracies).

    ``interval``: 95 % from the questions alone; ``run_interval``: from the spread between runs, ``runs`` per arm;
    None where the data allow none. ``p`` belongs to the former, ``run_p`` to the latter.
    """

    difference: float | None
    claimed: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    runs: tuple[int, ...] = ()
    n: tuple[int | None, ...] = ()
    run_difference: float | None = None
    run_interval: tuple[float, float] | None = None
    run_p: float | None = None
    run_method: str = ""
    attainable_p: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON."""
        names = {"runs": "runs_per_arm", "n": "items_per_arm"}
        found = {names.get(name, name): _plain(value) for name, value in vars(self).items()}
        exact = {"p": self.p, "run_p": self.run_p, "attainable_p": self.attainable_p}
        return {**found, **exact, "run_method": self.run_method or None}


@dataclass(frozen=True)
class Reading:
    """One comparison judged with one choice among contradictory values (one per place)."""

    values: tuple[float, ...]
    verdict: str
    reason: str
    numbers: Numbers
    excludes_claimed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON."""
        found = {"values": list(self.values), "verdict": self.verdict, "reason": self.reason}
        return {**found, "numbers": self.numbers.to_json()}


@dataclass(frozen=True)
class Judged:
    """One comparison over all its readings; the numbers are those of the first, the values named first."""

    comparison: Comparison
    verdict: str
    reason: str
    arms: tuple[dict[str, Any], ...]
    readings: tuple[Reading, ...]

    @property
    def numbers(self) -> Numbers:
        """Those of the first reading."""
        return self.readings[0].numbers

    @property
    def excludes_claimed(self) -> bool:
        """Every reading's intervals lie clear of the claimed size."""
        return all(reading.excludes_claimed for reading in self.readings)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON; readings are listed where values contradict each other."""
        return {
            "kind": self.comparison.kind,
            "role": self.comparison.role,
            "verdict": self.verdict,
            "reason": self.reason,
            "arms": list(self.arms),
            "numbers": self.numbers.to_json(),
            "readings": [reading.to_json() for reading in self.readings] if len(self.readings) > 1 else [],
        }


@dataclass(frozen=True)
class Judgement:
    """One claim judged. ``seeds_per_arm`` and ``items_per_arm`` would settle it (80 % power, 5 % two-sided)."""

    claim: Claim
    verdict: str
    reason: str
    comparisons: tuple[Judged, ...]
    deciding: int | None
    pooled_sd: float
    freedom: int
    seeds_per_arm: int | None
    items_per_arm: int | None
    cautions: tuple[str, ...] = ()

    @property
    def numbers(self) -> Numbers:
        """Those of the comparison that decided."""
        return Numbers(None) if self.deciding is None else self.comparisons[self.deciding].numbers

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        contradictory = any(len(judged.readings) > 1 for judged in self.comparisons)
        return {
            "id": self.claim.id,
            "claim": self.claim.claim,
            "source": list(self.claim.sources),
            "factors": list(self.claim.factors),
            "verdict": self.verdict,
            "reason": self.reason,
            "numbers": {
                **self.numbers.to_json(),
                "pooled_sd": self.pooled_sd if self.freedom else None,
                "pooled_sd_degrees_of_freedom": self.freedom,
            },
            "seeds_per_arm_to_settle": self.seeds_per_arm,
            "items_per_arm_to_settle": self.items_per_arm,
            "contradictory_values": contradictory,
            "verdict_depends_on_values": any(
                len({reading.verdict for reading in judged.readings}) > 1
                for judged in self.comparisons
                if judged.comparison.role == RESTS_ON
            ),
            "comparisons": [judged.to_json() for judged in self.comparisons],
            "cautions": list(self.cautions),
        }


def _plain(value: Any) -> Any:
    """``value`` as a JSON type, numbers to six digits behind the point."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value
