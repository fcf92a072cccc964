"""Does the gate decide as often as promised? Synthetic arms with a planted drop through the real decision path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.calibration.coverage import simulated
from harness.gates.judge import gate
from harness.gates.policy import GatePolicy
from harness.gates.verdicts import FAIL, INCONCLUSIVE, PASS
from harness.record import CERTIFIED, RIGHT, WRONG, Arm, Certificate, LevelCertificate, Outcome
from harness.stats.bootstrap import private_generator
from harness.stats.interval import Interval
from harness.stats.odds import VerdictOdds, shares, verdict_odds, verdict_odds_mean

VERDICTS = (PASS, INCONCLUSIVE, FAIL)
WRONG_PASS, WRONG_FAIL = 0.07, 0.09
"""At a true drop equal to the margin, from 200 items on: the largest accepted shares (exact score bounds are
discrete; nominally both are 5 %)."""

LEVELS, SEEDS = (0.0, 0.05, 0.10), 5
_OUTCOMES = (Outcome(0.0, WRONG), Outcome(1.0, RIGHT))
_KEY = {"engine": "synthetic", "dataset": "calibration"}


@dataclass(frozen=True)
class GateCase:
    """What is simulated: ``n`` items, the share of discordant pairs, the true drop (fractions), the margin.

    With ``seeds`` the gate runs over three levels, the noisy ones with five seeds, each with the same drop;
    otherwise it is one draw at level 0. ``retention``: the candidate's true and least accepted retention, equal.
    ``early_stop``: the share of alpha spent on looking after every item.
    """

    name: str
    n: int
    discordance: float
    drop: float = 0.0
    margin: float = 0.03
    accuracy: float = 0.75
    seeds: bool = False
    retention: float | None = None
    alpha: float = 0.05
    early_stop: float = 0.0

    @property
    def at_margin(self) -> bool:
        """True where the drop (or the retention) is exactly what is just not accepted."""
        return self.retention is not None or abs(self.drop - self.margin) < 1e-12

    @property
    def policy(self) -> GatePolicy:
        """The gate's rules; bootstraps are left out, because they never decide. Where retention decides, the margin is
        too wide to, which a policy must force."""
        alone = self.retention is not None
        return GatePolicy(
            0.9 if alone else self.margin,
            self.alpha,
            min_retention=self.retention,
            bootstrap_resamples=0,
            early_stop=self.early_stop,
            force=alone,
        )

    @property
    def predicted(self) -> VerdictOdds | None:
        """What the planner says; for several levels every one must PASS, and one FAIL decides. It has no prediction
        for retention, nor with early stopping."""
        if self.retention is not None or self.early_stop:
            return None
        clean = verdict_odds(self.n, self.discordance, self.margin, self.drop, self.alpha)
        if not self.seeds:
            return clean
        spread = math.sqrt((self.discordance - self.drop**2) / SEEDS)
        noisy = verdict_odds_mean(self.n, spread, self.margin, self.drop, self.alpha)
        passing = clean.passing * noisy.passing**2
        failing = 1 - (1 - clean.failing) * (1 - noisy.failing) ** 2
        return VerdictOdds(passing, max(0.0, 1 - passing - failing), failing)


@dataclass(frozen=True)
class GateShares:
    """How often each verdict came (fractions with 99.9 % binomial intervals), beside the planner's prediction."""

    case: GateCase
    observed: Mapping[str, Interval]
    repetitions: int

    @property
    def problems(self) -> tuple[str, ...]:
        """What speaks against the gate: a prediction outside its interval, or too many wrong verdicts."""
        found = []
        predicted = self.case.predicted
        if predicted is not None:
            for verdict, share in zip(VERDICTS, asdict(predicted).values(), strict=True):
                seen = self.observed[verdict]
                if not seen.low - 1e-9 <= share <= seen.high + 1e-9:
                    found.append(f"{verdict} {seen.estimate:.4f}, predicted {share:.4f}")
        if self.case.at_margin and self.case.n >= 200:
            for verdict, most in ((PASS, WRONG_PASS), (FAIL, WRONG_FAIL)):
                if self.observed[verdict].low > most:
                    found.append(f"wrong {verdict} {self.observed[verdict].estimate:.4f}, at most {most:g}")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        predicted = self.case.predicted
        return {
            **asdict(self.case),
            "repetitions": self.repetitions,
            "observed": {verdict: self.observed[verdict].to_json() for verdict in VERDICTS},
            "predicted": None if predicted is None else predicted.to_json(),
            "problems": list(self.problems),
        }


def synthetic_arm(label: str, scores: Mapping[float, NDArray[np.int64]]) -> Arm:
    """Return an arm of ``scores[level]`` (items, seeds), 0 or 1, whose certificate vouches for every level."""
    outcomes = {
        level: {
            f"i{row}": {seed: _OUTCOMES[value] for seed, value in enumerate(values)}
            for row, values in enumerate(matrix.tolist())
        }
        for level, matrix in scores.items()
    }
    entries = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in scores)
    return Arm(label, _KEY, outcomes, Certificate(CERTIFIED, entries))


def _columns(table: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(judged, reference), each (items, 1), of a table (both right, gained, lost, both wrong)."""
    judged = np.repeat([1, 1, 0, 0], table)[:, None]
    reference = np.repeat([1, 0, 1, 0], table)[:, None]
    return judged, reference


def _cells(case: GateCase) -> list[float]:
    """Probabilities of (both right, gained, lost, both wrong)."""
    if case.retention is not None:
        drop = case.accuracy * (1 - case.retention)
        lost, gained = shares(max(case.discordance, drop), drop)
    else:
        lost, gained = shares(case.discordance, case.drop)
    both = case.accuracy - lost
    return [both, gained, lost, max(0.0, 1 - both - gained - lost)]


def _tables(case: GateCase, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """``count`` tables (count, 4). Where only lost and gained pairs matter the others are split by expectation, so that
    fewer tables are distinct."""
    cells = _cells(case)
    if case.retention is not None:
        return rng.multinomial(case.n, cells, size=count)
    both, gained, lost, neither = cells
    rest, gains, losses = rng.multinomial(case.n, [both + neither, gained, lost], size=count).T
    right = np.rint(rest * (both / (both + neither))).astype(np.int64)
    return np.stack([right, gains, losses, rest - right], axis=1)


def _of_table(case: GateCase, table: Sequence[int]) -> str:
    judged, reference = _columns(table)
    if case.retention is None:
        return gate(
            synthetic_arm("candidate", {0.0: judged}), synthetic_arm("baseline", {0.0: reference}), case.policy
        ).verdict
    # the candidate under noise beside its own clean level; the baseline is the same run
    arm = synthetic_arm("candidate", {0.0: reference, LEVELS[1]: judged})
    return gate(arm, replace(arm, label="baseline"), case.policy).verdict


def _of_levels(case: GateCase, rng: np.random.Generator) -> str:
    sides: tuple[dict[float, NDArray[np.int64]], dict[float, NDArray[np.int64]]] = ({}, {})
    for level in LEVELS if case.seeds else LEVELS[:1]:
        kinds = rng.choice(4, size=(case.n, SEEDS if level else 1), p=_cells(case))
        sides[0][level] = np.isin(kinds, (0, 1)).astype(np.int64)
        sides[1][level] = np.isin(kinds, (0, 2)).astype(np.int64)
    return gate(synthetic_arm("candidate", sides[0]), synthetic_arm("baseline", sides[1]), case.policy).verdict


def simulate(case: GateCase, repetitions: int) -> GateShares:
    """Draw ``case`` so many times and judge each by :func:`harness.gates.gate`; equal tables are judged once.

    Draws come from a private generator of the case, so that equal calls give equal shares.
    """
    rng = private_generator(0, f"{case}")
    counts = dict.fromkeys((*VERDICTS, "INVALID"), 0)
    if case.seeds or case.early_stop:  # with early stopping the order of the items matters too
        for _ in range(repetitions):
            counts[_of_levels(case, rng)] += 1
    else:
        for table, times in zip(*np.unique(_tables(case, rng, repetitions), axis=0, return_counts=True), strict=True):
            counts[_of_table(case, table.tolist())] += int(times)
    return GateShares(case, {name: simulated(counts[name], repetitions) for name in VERDICTS}, repetitions)


def gate_cases(thorough: bool = False) -> tuple[tuple[GateCase, int], ...]:
    """Return (case, repetitions): A/A runs, a drop equal to the margin, planted drops of 2, 4 and 8 points,
    retention."""
    sizes, count, few, slow = ((200, 500, 1319), 20_000, 20_000, 3_000) if thorough else ((200,), 1_000, 150, 100)
    cases = []
    for n in sizes:
        cases += [(GateCase("A/A", n, discordance), count) for discordance in (0.02, 0.1)]
        cases += [(GateCase("drop at the margin", n, d, drop=0.03), count) for d in (0.04, 0.1)]
        cases += [(GateCase(f"drop of {points} points", n, 0.1, drop=points / 100), count) for points in (2, 4, 8)]
    if not thorough:
        cases += [(GateCase("A/A", 1319, 0.1), few), (GateCase("drop of 4 points", 1319, 0.1, drop=0.04), few)]
    cases += [(GateCase("A/A, 3 levels, 5 seeds", 200, 0.1, margin=0.05, seeds=True), slow)]
    early = GateCase("drop at the margin, early stopping", 200, 0.1, drop=0.03, early_stop=0.5)
    cases += [(early, 5_000 if thorough else 300)]
    cases += [(GateCase("retention at its minimum", 200, 0.1, retention=0.95), few if not thorough else count)]
    return tuple(cases)


def run_cases(
    cases: Sequence[tuple[GateCase, int]], advance: Callable[[int], None] | None = None
) -> tuple[GateShares, ...]:
    """Return :func:`simulate` every case; ``advance(1)`` is called after each."""
    found = []
    for case, repetitions in cases:
        found.append(simulate(case, repetitions))
        if advance is not None:
            advance(1)
    return tuple(found)
