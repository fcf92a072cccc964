"""The pre-registered analysis of the gradient-versus-activation theory over arms of replicated runs.

Arms by the noise of their training: E8a none, E8b forward and backward, E8c forward only, E8d backward only. Every
finished model is evaluated clean, at 5 % and at 10 % inference noise. The thresholds below were fixed before any of
these runs; they are fractions (0.05: 5 points). A criterion is confirmed or falsified only where intervals over runs
(Welch, alpha 0.05 one-sided per bound) lie wholly on one side of its threshold and an exact permutation over these runs
could reach p <= 0.05 at all; everything else is undecided, and one run per arm always is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    better = _above(arms, "E8c", "E8b", NOISY, 0.0)
    criteria = (
        Criterion(
            "better robustness", "E8c >= E8b + 5 points at 5 % noise", (_above(arms, "E8c", "E8b", NOISY, BETTER),)
        ),
        Criterion(
            "similar training", "E8c and E8b within 1 point, clean", (_within(arms, "E8c", "E8b", CLEAN, ALIKE),)
        ),
        Criterion("poor robustness", "E8d <= E8a + 2 points at 5 % noise", (_below(arms, "E8d", "E8a", NOISY, POOR),)),
        Criterion(
            "theory",
            "E8c beats E8b and E8d at 5 % noise; E8b and E8d within 1 point, clean; retention of E8c above E8b's",
            (
                better,
                _above(arms, "E8c", "E8d", NOISY, 0.0),
                _within(arms, "E8b", "E8d", CLEAN, ALIKE),
                _retention(arms),
            ),
        ),
        Criterion(
            "not falsified",
            "E8c is better than E8b, and forward noise has an effect on robustness (E8c against E8a), at 5 % noise",
            (_better_at_all(arms), _effect(arms)),
        ),
        Criterion(
            "targets",
            "E8c above 70 % at 5 % noise and above 55 % at 10 %",
            tuple(_target(arms, level, least) for level, least in TARGETS),
        ),
    )
    return TheoryResult(arms, criteria)


def _values(arms: Arms, name: str, level: float) -> list[float]:
    return [run.accuracy[level] for run in arms.get(name, ()) if level in run.accuracy]


def _compare(text: str, ours: Sequence[float], theirs: Sequence[float], threshold: float) -> Statement:
    """The difference with its bounds and the one-sided p against ``threshold``; undecided so far, or why for good."""
    runs = len(ours), len(theirs)
    if not min(runs):
        return Statement(text, UNDECIDED, "an arm has no run", runs=runs)
    estimate = float(np.mean(ours) - np.mean(theirs))
    if min(runs) < 2:
        return Statement(text, UNDECIDED, "one run per arm decides nothing", estimate, runs=runs)
    least = attainable_p(*runs, two_sided=False)
    found = welch(ours, theirs, ALPHA)
    if found.p is None:
        reason = "the runs of each arm are equal: no spread to judge by"
        return Statement(text, UNDECIDED, reason, estimate, attainable_p=least, runs=runs)
    p = welch_t(np.asarray(ours) - threshold, theirs, "greater").p_value
    bounds = found.interval.low, found.interval.high
    reason = f"no p below {least:.3f} is attainable with {runs[0]} and {runs[1]} runs" if least > ALPHA else ""
    return Statement(text, UNDECIDED, reason, estimate, *bounds, p, least, runs)


def _decide(found: Statement, confirmed: bool, falsified: bool, p: float | None = None) -> Statement:
    """``found`` with its outcome, where nothing speaks against deciding at all."""
    if found.reason or found.low is None or found.high is None:
        return found
    outcome = CONFIRMED if confirmed else FALSIFIED if falsified else UNDECIDED
    where = {CONFIRMED: "wholly on the claimed side", FALSIFIED: "wholly on the other side", UNDECIDED: "on both sides"}
    p = found.p if p is None else p
    return replace(found, outcome=outcome, reason=f"the interval lies {where[outcome]}", p=p)


def _above(arms: Arms, name: str, other: str, level: float, threshold: float) -> Statement:
    text = f"{name} - {other} {_at(level)} above {_points(threshold)}"
    found = _compare(text, _values(arms, name, level), _values(arms, other, level), threshold)
    low, high = _bounds(found)
    return _decide(found, low > threshold, high < threshold)


def _below(arms: Arms, name: str, other: str, level: float, threshold: float) -> Statement:
    text = f"{name} - {other} {_at(level)} below {_points(threshold)}"
    found = _compare(text, _values(arms, name, level), _values(arms, other, level), threshold)
    low, high = _bounds(found)
    return _decide(found, high < threshold, low > threshold, None if found.p is None else 1 - found.p)


def _within(arms: Arms, name: str, other: str, level: float, margin: float) -> Statement:
    text = f"{name} - {other} {_at(level)} within {_points(margin)}"
    ours, theirs = _values(arms, name, level), _values(arms, other, level)
    found = _compare(text, ours, theirs, -margin)
    low, high = _bounds(found)
    p = None if found.p is None else equivalence_independent(ours, theirs, margin).p_value
    return _decide(found, -margin < low and high < margin, low > margin or high < -margin, p)


def _retention(arms: Arms) -> Statement:
    """accuracy at 5 % noise / clean accuracy, run by run."""
    ours, theirs = (
        [
            run.accuracy[NOISY] / run.accuracy[CLEAN]
            for run in arms.get(name, ())
            if NOISY in run.accuracy and run.accuracy.get(CLEAN)
        ]
        for name in ("E8c", "E8b")
    )
    found = _compare("retention of E8c - E8b above 0 points", ours, theirs, 0.0)
    low, high = _bounds(found)
    return _decide(found, low > 0, high < 0)


def _better_at_all(arms: Arms) -> Statement:
    """No better: the interval ends below the 1 point that the plan calls alike."""
    text = f"E8c - E8b {_at(NOISY)} above 0 points, falsified below {_points(ALIKE)}"
    found = _compare(text, _values(arms, "E8c", NOISY), _values(arms, "E8b", NOISY), 0.0)
    low, high = _bounds(found)
    return _decide(found, low > 0, high < ALIKE)


def _effect(arms: Arms) -> Statement:
    """Without effect: the interval lies within the 1 point that the plan calls alike."""
    text = f"E8c - E8a {_at(NOISY)} not 0, falsified within {_points(ALIKE)}"
    found = _compare(text, _values(arms, "E8c", NOISY), _values(arms, "E8a", NOISY), 0.0)
    low, high = _bounds(found)
    p = None if found.p is None else min(1.0, 2 * min(found.p, 1 - found.p))
    return _decide(found, low > 0 or high < 0, low > -ALIKE and high < ALIKE, p)


def _target(arms: Arms, level: float, least: float) -> Statement:
    text = f"E8c {_at(level)} above {_points(least)}"
    values = _values(arms, "E8c", level)
    runs = (len(values),)
    if not values:
        return Statement(text, UNDECIDED, "the arm has no run", runs=runs)
    estimate = float(np.mean(values))
    if len(values) < 2:
        return Statement(text, UNDECIDED, "one run decides nothing", estimate, runs=runs)
    attainable = 1 / 2 ** len(values)
    if np.ptp(values) < 1e-12:
        reason = "the runs are equal: no spread to judge by"
        return Statement(text, UNDECIDED, reason, estimate, attainable_p=attainable, runs=runs)
    found = stats.ttest_1samp(values, least, alternative="greater")
    bounds = stats.ttest_1samp(values, least).confidence_interval(1 - 2 * ALPHA)
    reason = f"no p below {attainable:.3f} is attainable with {len(values)} runs" if attainable > ALPHA else ""
    low, high = float(bounds.low), float(bounds.high)
    statement = Statement(text, UNDECIDED, reason, estimate, low, high, float(found.pvalue), attainable, runs)
    return _decide(statement, low > least, high < least)


def _bounds(found: Statement) -> tuple[float, float]:
    """NaN, which no comparison holds for, where there are none."""
    return (math.nan, math.nan) if found.low is None or found.high is None else (found.low, found.high)


def _at(level: float) -> str:
    return "clean" if level == 0 else f"at {100 * level:g} % noise"


def _points(value: float) -> str:
    return f"{100 * value:g} points"
