"""What a gate returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.gates.divergence import DivergenceResult
from harness.gates.early import Looks
from harness.gates.families import Adjusted, Tests
from harness.gates.pairing import Flip
from harness.gates.policy import FAILS, STOP
from harness.gates.repeated import Repeated
from harness.gates.verdicts import FAIL, INCONCLUSIVE, exit_code, worst
from harness.record import Certificate
from harness.stats import EarlyStop, Interval
from harness.thresholds import ALPHA

ANSWERS, DISTRIBUTIONS = "answers", "distributions"
"""The halves of a gate on both."""

NOT_RUN = "not run"
"""In place of a verdict on answers that were not generated, because the distributions had decided."""


@dataclass(frozen=True)
class NatsLost:
    """What the candidate lost at one level, in nats a token; positive is worse.

    ``candidate`` and ``baseline`` are the negative log-likelihoods of all documents by all of their ``tokens``.
    ``clusters`` counts what is independent, ``effective`` as how many of one length they count; ``skewness`` is that
    of what they lost.
    """

    lost: Interval
    candidate: float
    baseline: float
    margin: float
    tokens: int
    clusters: int
    effective: float
    skewness: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self) | {"lost": self.lost.to_json()}


@dataclass(frozen=True)
class LevelVerdict:
    """The verdict at one noise level. Accuracies, differences and retention are fractions.

    ``n`` counts the items measured on both sides with every seed; ``lost`` and ``gained`` count (item, seed)
    outcomes that only the baseline, or only the candidate, has right. An interval that is not defined is ``None``.
    ``flipped`` lists them. ``unscored`` holds, per arm, the (item, seed) outcomes without a
    score by reason. ``items_needed`` is known for INCONCLUSIVE levels only, for the level taken alone. ``adjusted``
    holds the p-values where the policy's family adjusts them, of the requirements in ``tests``. ``early`` is what
    looking early found, ``None`` where the policy does not look. ``repeated`` describes sampled answers, beside those
    of the baseline; the JSON of greedy ones lacks it. ``nats`` is what texts lost, whose levels have no accuracies; the
    JSON of others lacks it.
    """

    level: float
    verdict: str
    reasons: tuple[str, ...]
    n: int = 0
    seeds: tuple[int, ...] = ()
    accuracy: Interval | None = None
    baseline_accuracy: Interval | None = None
    difference: Interval | None = None
    retention: Interval | None = None
    bootstrap: Interval | None = None
    lost: int = 0
    gained: int = 0
    items_needed: int | None = None
    unscored: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    flipped: tuple[Flip, ...] = ()
    adjusted: Adjusted | None = None
    tests: Tests | None = field(default=None, repr=False, compare=False)
    early: EarlyStop | None = None
    repeated: tuple[Repeated, ...] = ()
    nats: NatsLost | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        intervals = ("accuracy", "baseline_accuracy", "difference", "retention", "bootstrap")
        shown = {name: getattr(self, name) for name in intervals}
        return {
            "level": self.level,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "n": self.n,
            "seeds": list(self.seeds),
            **{name: None if interval is None else interval.to_json() for name, interval in shown.items()},
            "flips": {"lost": self.lost, "gained": self.gained},
            "flipped": [
                {"item": flip.item, "seed": flip.seed, "gained": flip.gained, "baseline": flip.before}
                for flip in self.flipped
            ],
            "items_needed": self.items_needed,
            "early_stop": None if self.early is None else self.early.to_json(),
            "adjusted": None if self.adjusted is None else self.adjusted.to_json(),
            "unscored": {arm: dict(counts) for arm, counts in self.unscored.items()},
            **({"repeated": [each.to_json() for each in self.repeated]} if self.repeated else {}),
            **({} if self.nats is None else {"nats": self.nats.to_json()}),
        }


@dataclass(frozen=True)
class GateResult:
    """The verdict over all levels, with one :class:`LevelVerdict` per level of the baseline, ascending.

    ``certificate`` is the candidate's; ``baseline`` names the other arm (label, status of its certificate,
    measurement key); ``family`` says how several levels were held together. ``early``: the items that were looked at,
    and of how many, where the policy stops early. ``notes`` are what every report says in its first lines.
    ``alphas`` are the one-sided levels of the intervals of accuracies and retention, and of differences.
    ``quick`` is the declared quick check (:mod:`harness.gates.quick`), None for the whole baseline (its JSON lacks it).
    ``divergence`` is the other half of a gate on answers and distributions (:mod:`harness.gates.joint`), None where
    answers alone are judged (its JSON lacks it); the verdict is that over both. Without ``levels`` it decided alone.
    """

    verdict: str
    reasons: tuple[str, ...]
    levels: tuple[LevelVerdict, ...]
    family: str
    certificate: Certificate
    baseline: Mapping[str, Any]
    inconclusive: str = STOP
    early: Looks | None = None
    notes: tuple[str, ...] = ()
    quick: Mapping[str, Any] | None = None
    alphas: tuple[float, float] = (ALPHA, ALPHA)
    divergence: DivergenceResult | None = None

    @property
    def halves(self) -> dict[str, str]:
        """The verdicts on answers and on distributions; empty where answers alone are judged."""
        if self.divergence is None:
            return {}
        answers = worst(level.verdict for level in self.levels) if self.levels else NOT_RUN
        return {ANSWERS: answers, DISTRIBUTIONS: self.divergence.verdict}

    @property
    def exit_code(self) -> int:
        """PASS 0, FAIL 1, INCONCLUSIVE 3 (1 where the policy says so), INVALID 4."""
        failing = self.verdict == INCONCLUSIVE and self.inconclusive == FAILS
        return exit_code(FAIL if failing else self.verdict)

    def to_json(self) -> dict[str, Any]:
        """Return one object for strict JSON (no NaN or infinity)."""
        found: dict[str, Any] = _strict(
            {
                "verdict": self.verdict,
                "exit_code": self.exit_code,
                "notes": self.notes,
                "reasons": self.reasons,
                "levels": [level.to_json() for level in self.levels],
                "family": self.family,
                "alpha": dict(zip(("accuracy", "difference"), self.alphas, strict=True)),
                "early_stop": None if self.early is None else self.early.to_json(),
                "certificate": self.certificate.to_json(),
                "baseline": self.baseline,
                **({} if self.quick is None else {"quick_check": self.quick}),
                **self._both(),
            }
        )
        return found

    def _both(self) -> dict[str, Any]:
        if self.divergence is None:
            return {}
        return {"halves": self.halves, "divergence": self.divergence.to_json()}


def _strict(value: Any) -> Any:
    """The same value as JSON types, with ``None`` for numbers that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    return value
