"""The gate on distributions, simulated: two recordings that differ by nothing, by draws alone, or by a margin.

Items are drawn with replacement from a pool of pairs of distributions, whose mean divergence is known because it is
that of the pool; each draw of items goes through the real gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harness.calibration.coverage import simulated
from harness.calibration.gates import LEVELS, synthetic_arm
from harness.distributions import Distribution, divergence
from harness.gates.divergence import DivergencePolicy, LevelDivergence, Measured, divergence_gate
from harness.gates.joint import Sides, decided_alone, gate_both
from harness.gates.policy import GatePolicy
from harness.gates.result import GateResult
from harness.gates.verdicts import FAIL, PASS
from harness.record import CERTIFIED, RIGHT, Arm, Certificate, ControlResult, LevelCertificate, Origin, Outcome
from harness.stats.bootstrap import private_generator
from harness.stats.interval import Interval
from harness.stats.odds import shares

WRONG_PASS, WRONG_FAIL, LEAST_COVERAGE = 0.08, 0.05, 0.88
"""At a true mean equal to the margin: the largest accepted shares, and of the interval (two bounds of one-sided 5 %,
nominal 90 %) the least."""

POOL, PLACES, VOCABULARY, KEPT = 1000, 4, 12, 10
SAME, DRAWS, CHANGE = "rounding", "draws", "change"
"""What sets the two sides apart: the last bits, two draws of noise, or the candidate's own error alone."""

KEY = {"task": "answers", "dataset": "calibration"}
ORIGIN = Origin("weights", "settings")
DROP = 0.1
_RIGHT = Outcome(1.0, RIGHT)


@dataclass(frozen=True)
class DistributionCase:
    """``n`` items whose sides lie ``apart`` by :data:`SAME`, :data:`DRAWS` or :data:`CHANGE`: errors of logits whose
    square varies over items lognormally with ``sigma``, and so, nearly, does the divergence. ``share``: the margin over
    the true mean divergence. ``levels``: how many noise levels are one family."""

    name: str
    n: int
    apart: str = DRAWS
    sigma: float = 1.0
    share: float = 1.0
    levels: int = 1
    answers: float = 0.0

    @property
    def at_margin(self) -> bool:
        """True where the true mean divergence is the margin, so that both PASS and FAIL are wrong."""
        return self.share == 1 and self.apart != SAME


@dataclass(frozen=True)
class DistributionShares:
    """How often the gate over all levels said PASS and FAIL, and how often the interval of the first level held the
    true mean (fractions with 99.9 % binomial intervals)."""

    case: DistributionCase
    passing: Interval
    failing: Interval
    covered: Interval
    repetitions: int

    @property
    def problems(self) -> tuple[str, ...]:
        """What speaks against the gate."""
        found = []
        if self.case.apart == SAME and self.passing.estimate < 1:
            found.append(f"PASS {self.passing.estimate:.4f} where nothing differs")
        if self.failing.low > WRONG_FAIL:
            found.append(f"wrong FAIL {self.failing.estimate:.4f}, at most {WRONG_FAIL:g}")
        if self.case.at_margin and self.passing.low > WRONG_PASS:
            found.append(f"wrong PASS {self.passing.estimate:.4f}, at most {WRONG_PASS:g}")
        if self.case.apart != SAME and self.covered.high < LEAST_COVERAGE:
            found.append(f"coverage {self.covered.estimate:.4f}, at least {LEAST_COVERAGE:g}")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        found = {name: getattr(self, name).to_json() for name in ("passing", "failing", "covered")}
        return {
            **asdict(self.case),
            "at_margin": self.case.at_margin,
            "repetitions": self.repetitions,
            **found,
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class Pool:
    """Pairs of distributions, candidate and reference, one an item."""

    pairs: tuple[tuple[Distribution, Distribution], ...]

    @classmethod
    def of(cls, case: DistributionCase) -> Pool:
        """Return :data:`POOL` items whose sides lie apart as ``case`` says; equal cases give equal pools."""
        rng = private_generator(0, f"pool {case.apart} {case.sigma:g}")
        shape = (POOL, PLACES, VOCABULARY)
        base = 6 * rng.standard_normal(shape)
        scale = 0.3 * np.exp(case.sigma / 2 * rng.standard_normal(POOL))[:, None, None]
        first, second = (scale * rng.standard_normal(shape) for _ in range(2))
        sides = {
            SAME: (base + 1e-6 * first, base),
            DRAWS: (base + first, base + second),
            CHANGE: (base + first, base),
        }[case.apart]
        return cls(tuple(_kept(*logits) for logits in zip(*sides, strict=True)))

    @cached_property
    def mean(self) -> float:
        """The mean divergence of its items (nats a token)."""
        found = (divergence(reference, candidate).kl.mean() for candidate, reference in self.pairs)
        return float(np.mean(list(found)))

    def drawn(self, n: int, levels: Sequence[float], rng: np.random.Generator) -> tuple[Measured, Measured]:
        """Return candidate and reference of ``n`` items at each of ``levels``, drawn with replacement."""
        rows = {level: rng.integers(0, len(self.pairs), n) for level in levels}
        first, second = (
            side(name, {level: [self.pairs[row][place] for row in own] for level, own in rows.items()})
            for place, name in enumerate(("candidate", "reference"))
        )
        return first, second


def side(label: str, kept: Mapping[float, Sequence[Distribution]], key: Mapping[str, str] = KEY) -> Measured:
    """Return one side with the distributions ``kept`` (level -> one an item), whose certificate vouches for all."""
    items = {level: [f"i{row}" for row in range(len(own))] for level, own in kept.items()}
    outcomes = {level: {item: {0: _RIGHT} for item in own} for level, own in items.items()}
    entries = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in kept)
    arm = Arm(label, key, outcomes, Certificate(CERTIFIED, entries, ControlResult(1.0, 2, 2, 0, 2)))
    names = {(item, level, 0): found for level in kept for item, found in zip(items[level], kept[level], strict=True)}
    arm = replace(arm, origin=ORIGIN)
    return Measured(arm, names, {name: tuple(found.logprobs[:, 0].tolist()) for name, found in names.items()})


def simulate_distributions(case: DistributionCase, repetitions: int) -> DistributionShares:
    """Draw ``case`` so many times and judge each by :func:`harness.gates.divergence.divergence_gate`."""
    pool, rng = Pool.of(case), private_generator(0, f"{case}")
    margin = 0.01 if case.apart == SAME else case.share * pool.mean
    counts = {PASS: 0, FAIL: 0}
    covered = 0
    for _ in range(repetitions):
        sides = pool.drawn(case.n, LEVELS[: case.levels], rng)
        if case.answers:
            both = _both(case, Sides(*sides), margin, rng)
            verdict, half = both.verdict, both.divergence
        else:
            half = divergence_gate(*sides, DivergencePolicy(margin))
            verdict = half.verdict
        assert half is not None
        counts[verdict] = counts.get(verdict, 0) + 1
        covered += _holds(half.levels[0], pool.mean)
    passing, failing = (simulated(counts[name], repetitions) for name in (PASS, FAIL))
    return DistributionShares(case, passing, failing, simulated(covered, repetitions), repetitions)


def distribution_cases(thorough: bool = False) -> tuple[tuple[DistributionCase, int], ...]:
    """Return (case, repetitions): A/A runs that differ by nothing of substance and by draws alone, and changes whose
    true mean is the margin."""
    count = 2_000 if thorough else 200
    cases = [
        (DistributionCase("A/A, rounding alone", 64, SAME, levels=3), count // 10),
        (DistributionCase("A/A, other draws, margin at their mean, 3 levels", 64, levels=3), count),
        (DistributionCase("A/A, other draws, margin at twice their mean", 64, share=2.0), count),
        (DistributionCase("change at the margin", 64, CHANGE), count),
        (DistributionCase("change at the margin, long tail", 64, CHANGE, sigma=2.0), count),
        (DistributionCase("answers and distributions at their margins", 64, CHANGE, levels=2, answers=0.5), count),
    ]
    if thorough:
        cases += [(DistributionCase("change at the margin", 256, CHANGE, sigma), count) for sigma in (1.0, 2.0)]
    return tuple(cases)


def run_distributions(
    cases: Sequence[tuple[DistributionCase, int]], advance: Callable[[int], None] | None = None
) -> tuple[DistributionShares, ...]:
    """Return :func:`simulate_distributions` every case; ``advance(1)`` is called after each."""
    found = []
    for case, repetitions in cases:
        found.append(simulate_distributions(case, repetitions))
        if advance is not None:
            advance(1)
    return tuple(found)


def _both(case: DistributionCase, sides: Sides, margin: float, rng: np.random.Generator) -> GateResult:
    """The verdict on both halves: of the distributions first, and of answers with a drop of :data:`DROP` where they are
    needed."""
    lost, gained = shares(2 * DROP, DROP)
    policy = GatePolicy(DROP, early_stop=case.answers, kl_margin=margin, bootstrap_resamples=0, positive_control=False)
    scores: tuple[dict[float, NDArray[np.int64]], ...] = ({}, {})
    for level in LEVELS[: case.levels]:
        kinds = rng.choice(4, size=(case.n, 1), p=[0.75 - lost, gained, lost, 0.25 - gained])
        scores[0][level], scores[1][level] = (np.isin(kinds, right).astype(np.int64) for right in ((0, 1), (0, 2)))
    arms = [
        replace(synthetic_arm(name, own), key=KEY, origin=ORIGIN)
        for name, own in zip(("candidate", "baseline"), scores, strict=True)
    ]
    return decided_alone(arms[1], sides, policy) or gate_both((arms[0], arms[1]), sides, policy)


def _holds(level: LevelDivergence, mean: float) -> bool:
    return level.divergence is not None and level.divergence.low <= mean <= level.divergence.high


def _kept(candidate: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[Distribution, Distribution]:
    """Both of one item, of logits (places, vocabulary), over the reference's most probable tokens."""
    order = np.argsort(-reference, axis=1).astype(np.int32)
    return _distribution(candidate, order), _distribution(reference, order)


def _distribution(logits: NDArray[np.float64], order: NDArray[np.int32]) -> Distribution:
    logprobs = logits - special.logsumexp(logits, axis=1, keepdims=True)
    ordered = np.take_along_axis(logprobs, order.astype(np.int64), axis=1)
    rest, least = special.logsumexp(ordered[:, KEPT:], axis=1), logprobs.min(1)
    at, best = np.arange(len(logits), dtype=np.int32), logits.argmax(1).astype(np.int32)
    kept, rest, least = (each.astype(np.float32) for each in (ordered[:, :KEPT], rest, least))
    return Distribution(at, order[:, :KEPT], kept, rest, least, best)
