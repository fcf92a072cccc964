"""The pre-registered analysis of the gradient-versus-activation theory over arms of replicated runs.

Arms by the noise of their training: E8a none, E8b forward and backward, E8c forward only, E8d backward only. Every
finished model is evaluated clean, at 5 % and at 10 % inference noise. The thresholds below were fixed before any of
these runs; they are fractions (0.05: 5 points). A criterion is confirmed or falsified only where intervals over runs
(Welch, alpha 0.05 one-sided per bound) lie wholly on one side of its threshold and an exact permutation over these runs
could reach p <= 0.05 at all; everything else is undecided, and one run per arm always is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from harness.stats import equivalence_independent, welch_t
from harness.stats.replicates import attainable_p, welch

ARMS: Mapping[str, str] = {
    "E8a": "no noise in training",
    "E8b": "noise forward and backward",
    "E8c": "noise forward only",
    "E8d": "noise backward only",
}
CLEAN, NOISY, VERY_NOISY = 0.0, 0.05, 0.10
BETTER, ALIKE, POOR = 0.05, 0.01, 0.02
"""E8c >= E8b + 0.05 at 5 % noise; clean accuracies within 0.01; E8d <= E8a + 0.02 at 5 % noise."""

TARGETS = ((NOISY, 0.70), (VERY_NOISY, 0.55))
"""Accuracies of E8c above which the rerun was meant to end, by noise level."""

ALPHA = 0.05
CONFIRMED, FALSIFIED, UNDECIDED = "confirmed", "falsified", "undecided"


@dataclass(frozen=True)
class TheoryRun:
    """One trained model: its accuracy (fraction) by inference-noise level (fraction)."""

    label: str
    accuracy: Mapping[float, float]


Arms = Mapping[str, Sequence[TheoryRun]]


@dataclass(frozen=True)
class Statement:
    """One statement about arms: outcome, why, estimate and two-sided 90 % bounds (fractions), p and the least p."""

    text: str
    outcome: str
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    attainable_p: float | None = None
    runs: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {**vars(self), "runs": list(self.runs)}


@dataclass(frozen=True)
class Criterion:
    """A criterion of the plan: the conjunction of its statements."""

    name: str
    rule: str
    statements: tuple[Statement, ...]

    @property
    def outcome(self) -> str:
        """Falsified by any statement, confirmed by all of them, else undecided."""
        found = {statement.outcome for statement in self.statements}
        if FALSIFIED in found:
            return FALSIFIED
        return CONFIRMED if found == {CONFIRMED} else UNDECIDED

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        statements = [statement.to_json() for statement in self.statements]
        return {"name": self.name, "rule": self.rule, "outcome": self.outcome, "statements": statements}


@dataclass(frozen=True)
class TheoryResult:
    """The theory judged: falsified by the criterion that says so beforehand, confirmed by its own, else undecided."""

    arms: Arms
    criteria: tuple[Criterion, ...]

    def criterion(self, name: str) -> Criterion:
        """Return the criterion called ``name``."""
        return next(criterion for criterion in self.criteria if criterion.name == name)

    @property
    def outcome(self) -> str:
        """One word for the theory."""
        if self.criterion("not falsified").outcome == FALSIFIED:
            return FALSIFIED
        return CONFIRMED if self.criterion("theory").outcome == CONFIRMED else UNDECIDED

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {
            "outcome": self.outcome,
            "arms": {
                name: [
                    {"run": run.label, "accuracy": {f"{level:g}": value for level, value in run.accuracy.items()}}
                    for run in self.arms.get(name, ())
                ]
                for name in ARMS
            },
            "criteria": [criterion.to_json() for criterion in self.criteria],
        }


@dataclass(frozen=True)
class Rule:
    """When an interval confirms a statement with threshold t, and when it falsifies it, both of (low, high, t).

    ``start`` times t is what the one-sided p is against; ``tails`` turns that p into the one of the statement.
    """

    text: str
    start: int
    confirmed: Callable[[float, float, float], bool]
    falsified: Callable[[float, float, float], bool]
    tails: Callable[[float], float] | None = None


ABOVE = Rule("above {t}", 1, lambda low, high, t: low > t, lambda low, high, t: high < t, lambda p: p)
BELOW = Rule("below {t}", 1, lambda low, high, t: high < t, lambda low, high, t: low > t, lambda p: 1 - p)
WITHIN = Rule("within {t}", -1, lambda low, high, t: -t < low and high < t, lambda low, high, t: low > t or high < -t)
BETTER_AT_ALL = replace(
    ABOVE, text="above 0 points, falsified below {t}", start=0, confirmed=lambda low, high, t: low > 0
)
EFFECT = Rule(
    "not 0, falsified within {t}",
    0,
    lambda low, high, t: low > 0 or high < 0,
    lambda low, high, t: -t < low and high < t,
    lambda p: min(1.0, 2 * min(p, 1 - p)),
)
RETENTION = "retention"
"""Accuracy at 5 % noise divided by the clean one, run by run; other measures are accuracies at a noise level."""

Row = tuple[str, str, float | str, Rule, float]
"""Arm, reference (empty: the arm alone), measure, rule and threshold of one statement."""

CRITERIA: tuple[tuple[str, str, tuple[Row, ...]], ...] = (
    ("better robustness", "E8c >= E8b + 5 points at 5 % noise", (("E8c", "E8b", NOISY, ABOVE, BETTER),)),
    ("similar training", "E8c and E8b within 1 point, clean", (("E8c", "E8b", CLEAN, WITHIN, ALIKE),)),
    ("poor robustness", "E8d <= E8a + 2 points at 5 % noise", (("E8d", "E8a", NOISY, BELOW, POOR),)),
    (
        "theory",
        "E8c beats E8b and E8d at 5 % noise; E8b and E8d within 1 point, clean; retention of E8c above E8b's",
        (
            ("E8c", "E8b", NOISY, ABOVE, 0.0),
            ("E8c", "E8d", NOISY, ABOVE, 0.0),
            ("E8b", "E8d", CLEAN, WITHIN, ALIKE),
            ("E8c", "E8b", RETENTION, ABOVE, 0.0),
        ),
    ),
    (
        "not falsified",
        "E8c is better than E8b, and forward noise has an effect on robustness (E8c against E8a), at 5 % noise",
        (("E8c", "E8b", NOISY, BETTER_AT_ALL, ALIKE), ("E8c", "E8a", NOISY, EFFECT, ALIKE)),
    ),
    (
        "targets",
        "E8c above 70 % at 5 % noise and above 55 % at 10 %",
        tuple(("E8c", "", level, ABOVE, least) for level, least in TARGETS),
    ),
)


def judge_theory(arms: Arms) -> TheoryResult:
    """Return every criterion of the plan. ``arms`` maps names of :data:`ARMS` to runs; missing arms leave things
    undecided.

    Raises ``ValueError`` for an unknown arm or an accuracy outside [0, 1].
    """
    for name, runs in arms.items():
        if name not in ARMS:
            raise ValueError(f"arm {name!r}; it is one of {', '.join(ARMS)}")
        for run in runs:
            if not all(0 <= value <= 1 for value in run.accuracy.values()):
                raise ValueError(f"run {run.label}: accuracies are fractions between 0 and 1")
    found = (Criterion(name, words, tuple(_decide(arms, *row) for row in rows)) for name, words, rows in CRITERIA)
    return TheoryResult(arms, tuple(found))


def _decide(arms: Arms, name: str, other: str, measure: float | str, rule: Rule, threshold: float) -> Statement:
    """One statement, with its outcome where nothing speaks against deciding at all."""
    values = [_values(arms, each, measure) for each in (name, other) if each]
    found = _measured(_text(name, other, measure, rule, threshold), values, rule.start * threshold)
    if found.reason or found.low is None or found.high is None or found.p is None:
        return found
    outcome = UNDECIDED
    if rule.confirmed(found.low, found.high, threshold):
        outcome = CONFIRMED
    elif rule.falsified(found.low, found.high, threshold):
        outcome = FALSIFIED
    where = {CONFIRMED: "wholly on the claimed side", FALSIFIED: "wholly on the other side", UNDECIDED: "on both sides"}
    p = rule.tails(found.p) if rule.tails else equivalence_independent(values[0], values[1], threshold).p_value
    return replace(found, outcome=outcome, reason=f"the interval lies {where[outcome]}", p=p)


def _values(arms: Arms, name: str, measure: float | str) -> list[float]:
    """The measure in every run of the arm that has it."""
    runs = [run.accuracy for run in arms.get(name, ())]
    if isinstance(measure, str):
        return [found[NOISY] / found[CLEAN] for found in runs if NOISY in found and found.get(CLEAN)]
    return [found[measure] for found in runs if measure in found]


def _measured(text: str, values: Sequence[Sequence[float]], threshold: float) -> Statement:
    """Estimate, bounds and the one-sided p against ``threshold``; undecided so far, or why for good."""
    runs, single = tuple(map(len, values)), len(values) == 1
    found = Statement(text, UNDECIDED, "", runs=runs)
    if not min(runs):
        return replace(found, reason=f"{'the' if single else 'an'} arm has no run")
    found = replace(found, estimate=float(np.mean(values[0]) - (0 if single else np.mean(values[1]))))
    if min(runs) < 2:
        return replace(found, reason=f"one run {'' if single else 'per arm '}decides nothing")
    least = 1 / 2 ** runs[0] if single else attainable_p(runs[0], runs[1], two_sided=False)
    found = replace(found, attainable_p=least)
    tested = _one_arm(values[0], threshold) if single else _two_arms(values[0], values[1], threshold)
    if tested is None:
        return replace(found, reason=f"the runs {'' if single else 'of each arm '}are equal: no spread to judge by")
    low, high, p = tested
    words = f"no p below {least:.3f} is attainable with {' and '.join(map(str, runs))} runs" if least > ALPHA else ""
    return replace(found, reason=words, low=low, high=high, p=p)


def _two_arms(ours: Sequence[float], theirs: Sequence[float], threshold: float) -> tuple[float, float, float] | None:
    """Welch's bounds and one-sided p; None without spread."""
    found = welch(ours, theirs, ALPHA)
    p = welch_t(np.asarray(ours) - threshold, theirs, "greater").p_value
    return None if found.p is None or p is None else (found.interval.low, found.interval.high, p)


def _one_arm(values: Sequence[float], threshold: float) -> tuple[float, float, float] | None:
    """Student's bounds and one-sided p; None without spread."""
    if np.ptp(values) < 1e-12:
        return None
    bounds = stats.ttest_1samp(values, threshold).confidence_interval(1 - 2 * ALPHA)
    p = stats.ttest_1samp(values, threshold, alternative="greater").pvalue
    return float(bounds.low), float(bounds.high), float(p)


def _text(name: str, other: str, measure: float | str, rule: Rule, threshold: float) -> str:
    words = rule.text.format(t=f"{100 * threshold:g} points")
    if isinstance(measure, str):
        return f"{measure} of {name} - {other} {words}"
    at = "clean" if measure == 0 else f"at {100 * measure:g} % noise"
    return f"{name}{f' - {other}' if other else ''} {at} {words}"
