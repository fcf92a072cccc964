"""Sampled answers beside the verdict: pass@k, pass^k and maj@k with intervals over items. They describe, and decide
nothing: the verdict is on the mean accuracy, which is pass@1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.gates.pairing import Cells, Floats, Pairs, pair, seeds_of
from harness.record import MeasurementKey
from harness.spec.sampling import is_sampled
from harness.stats import Interval, paired_mean, score_mean
from harness.stats.repeated import majority_at_k, pass_all_k, pass_at_k, sizes

PASS_AT, PASS_ALL, MAJORITY = "pass@k", "pass^k", "maj@k"
"""One of k answers is right; all are; the most frequent one is."""

Answers = Mapping[tuple[str, int], str | None]
"""(item, seed) -> the answer that was read, None where there was none."""


@dataclass(frozen=True)
class Repeated:
    """One measure of ``k`` answers to an item (fractions), over the items that both sides measured with every draw.

    ``against`` is the same of the other side, ``difference`` the paired difference, both ``None`` without one.
    """

    measure: str
    k: int
    value: Interval
    against: Interval | None = None
    difference: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        shown = {"value": self.value, "against": self.against, "difference": self.difference}
        intervals = {name: None if found is None else found.to_json() for name, found in shown.items()}
        return {"measure": self.measure, "k": self.k, **intervals}


def repeated_scores(
    first: Cells,
    second: Cells | None,
    alpha: float,
    *,
    key: MeasurementKey,
    clusters: Mapping[str, str] | None = None,
    answers: tuple[Answers, Answers] | None = None,
) -> tuple[Repeated, ...]:
    """Return every measure of the sampled answers ``first`` for k = 1, 2, 4, ... and all draws, ``alpha`` per bound.

    ``second`` is the other side, with as many draws: another arm, or the clean level; None where there is none.
    ``answers`` of both sides add the majority. Empty where ``key`` says that nothing was sampled, where there is one
    draw, and for scores other than 0 and 1. Intervals are over items (or clusters), for these noise seeds where items
    share the draws of the noise.
    """
    items = sorted(set(first) | set(second or {}))
    pairs = pair(first, first if second is None else second, rows=items, clusters=clusters)
    draws = pairs.first.shape[1]
    if not is_sampled(key) or draws < 2 or pairs.second.shape[1] != draws or pairs.n == 0:
        return ()
    ours, theirs = pairs.cells()
    if not np.isin(np.concatenate([ours, theirs]), (0.0, 1.0)).all():
        return ()
    kept = [item for item, measured in zip(items, pairs.measured, strict=True) if measured]
    measures: list[tuple[str, Callable[[int], tuple[Floats, Floats]]]] = [
        (PASS_AT, lambda k: (pass_at_k(ours, k), pass_at_k(theirs, k))),
        (PASS_ALL, lambda k: (pass_all_k(ours, k), pass_all_k(theirs, k))),
    ]
    if answers is not None:
        texts, others = (
            _rows(own, kept, seeds_of(cells)) for own, cells in zip(answers, (first, second or first), strict=True)
        )
        measures.append((MAJORITY, lambda k: (majority_at_k(ours, texts, k), majority_at_k(theirs, others, k))))
    return tuple(
        _interval(name, k, *measure(k), pairs=pairs, alpha=alpha, alone=second is None)
        for name, measure in measures
        for k in sizes(draws)
    )


def _rows(answers: Answers, items: Sequence[str], seeds: Sequence[int]) -> list[list[str | None]]:
    return [[answers[item, seed] for seed in seeds] for item in items]


def _interval(
    measure: str, k: int, ours: Floats, theirs: Floats, *, pairs: Pairs, alpha: float, alone: bool
) -> Repeated:
    value = score_mean(ours, alpha, pairs.groups)
    if alone:
        return Repeated(measure, k, value)
    difference = paired_mean(ours - theirs, alpha, pairs.groups)
    return Repeated(measure, k, value, score_mean(theirs, alpha, pairs.groups), difference)
