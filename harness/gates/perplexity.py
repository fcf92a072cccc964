"""Perplexity of the documents of a run, and how it differs from another: intervals over documents (no torch).

A document counts by its length: everything here is a ratio of sums over documents, whose interval is a bootstrap that
draws documents, or whole clusters of them, with all their noise seeds together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.exceptions import HarnessError, NotComparableError
from harness.gates.policy import GatePolicy
from harness.record import Arm, ItemResult, MeasurementKey, TextOutcome
from harness.scorers.perplexity import BYTES, NATS, PERPLEXITY, TOKENS, WORDS
from harness.scorers.protocol import SCORER_FIELD
from harness.scorers.unscored import UNSCORED
from harness.stats.bootstrap import ratio_bootstrap
from harness.stats.interval import Interval
from harness.thresholds import ALPHA

UNITS = (TOKENS, WORDS, BYTES)


@dataclass(frozen=True)
class Perplexity:
    """Of one level of a run. ``nats`` is the negative log-likelihood for each token, ``by`` holds the perplexity by
    token, word and byte; ``broken`` counts documents that are left out because a log-likelihood is not finite."""

    documents: int
    broken: int
    nats: Interval
    by: Mapping[str, Interval]


def is_continuous(key: MeasurementKey) -> bool:
    """Return whether numbers under ``key`` are log-likelihoods of texts, of which none is right or wrong."""
    return key.get(SCORER_FIELD) == PERPLEXITY


def is_unscored(key: MeasurementKey) -> bool:
    """Return whether the answers under ``key`` were judged by nobody."""
    return key.get(SCORER_FIELD) == UNSCORED


def refuse_unscored(key: MeasurementKey, what: str) -> None:
    """Raise :class:`HarnessError` where nobody judged the answers of ``what``."""
    if is_unscored(key):
        rule, way_out = "its answers were judged by nobody here", "gate a task, or what harness import makes of results"
        raise HarnessError(what, rule, way_out)


def refuse_continuous(key: MeasurementKey, what: str) -> None:
    """Raise :class:`HarnessError` where ``what`` has perplexities, or answers that nobody judged, and right and wrong
    ones are compared."""
    refuse_unscored(key, what)
    if is_continuous(key):
        raise HarnessError(
            what,
            "perplexity has no right answers, and accuracies are compared here",
            "use harness gate --nats-margin, or harness report RUN --against OTHER for the difference in nats",
        )


def check_rules(policy: GatePolicy, keys: Sequence[MeasurementKey]) -> None:
    """Raise :class:`HarnessError` where ``policy`` has a rule that nothing measured under ``keys`` is judged by."""
    texts = [is_continuous(key) for key in keys]
    nats = [margin for margin in (policy.nats_margin, *(each for _, each in policy.nats_margins)) if margin is not None]
    if nats and texts and not any(texts):
        raise HarnessError(
            f"nats_margin {nats[0]:g}",
            "right and wrong answers are judged, in points, and nothing would read it",
            "leave it out, or gate a baseline of perplexity",
        )
    kept = [minimum for minimum in (policy.min_retention, *(each for _, each in policy.retentions)) if minimum]
    if kept and texts and all(texts):
        rule = "a retention is of accuracies, and texts have none"
        raise HarnessError(f"min_retention {kept[0]:g}", rule, "leave it out: nats_margin says what may be lost")
    if policy.early_stop and any(texts):
        rule = "what texts lose has no e-process"
        raise HarnessError(f"early_stop {policy.early_stop:g} with texts", rule, "leave it out")


def perplexity_of(results: Sequence[ItemResult], clusters: Mapping[str, str]) -> Perplexity:
    """Return the perplexity of the records of one level; ``clusters`` holds the cluster of items that share one.

    Raises :class:`HarnessError` where no document has a finite log-likelihood.
    """
    documents = _documents(results)
    sound = {item: each for item, each in documents.items() if each is not None}
    if not sound:
        raise HarnessError("the log-likelihoods of a level", "none of them is finite", "lower the level")
    found = {}
    for unit in UNITS:
        sums, sizes = _summed([(item, -each[NATS], each[unit]) for item, each in sound.items()], clusters)
        found[unit] = ratio_bootstrap(sums, sizes, ALPHA, label=unit)
    by = {unit: _exponential(interval) for unit, interval in found.items()}
    return Perplexity(len(sound), len(documents) - len(sound), found[TOKENS], by)


def text_level(arm: Arm, level: float) -> tuple[int, int, Interval]:
    """Return documents, tokens, and the negative log-likelihood for each token (nats) of ``arm`` at ``level``, with the
    bounds of a bootstrap. Every document has a finite one, as in a baseline."""
    rows = []
    for item, row in arm.outcomes[level].items():
        own = [each for each in row.values() if isinstance(each, TextOutcome) and each.nats is not None]
        rows.append((item, -sum(each.nats or 0.0 for each in own) / len(own), own[0].tokens))
    sums, sizes = _summed(rows, arm.clusters)
    return len(rows), sum(size for _, _, size in rows), ratio_bootstrap(sums, sizes, ALPHA, label=TOKENS)


def nats_apart(
    results: Sequence[ItemResult], others: Sequence[ItemResult], clusters: Mapping[str, str]
) -> tuple[int, Interval]:
    """Return on how many documents both are finite, and how many nats for each token ``results`` lose against
    ``others``, document by document. Raises :class:`NotComparableError` where there is none."""
    ours, theirs = _documents(results), _documents(others)
    rows = [
        (item, theirs_[NATS] - own[NATS], own[TOKENS])
        for item, own in ours.items()
        if own is not None and (theirs_ := theirs.get(item)) is not None
    ]
    if not rows:
        raise NotComparableError(
            "two runs", "no document has a finite log-likelihood in both", "evaluate the same data"
        )
    sums, sizes = _summed(rows, clusters)
    return len(rows), ratio_bootstrap(sums, sizes, ALPHA, label="apart")


def _documents(results: Iterable[ItemResult]) -> dict[str, dict[str, float] | None]:
    """The means over noise seeds by document, None where a log-likelihood is not finite."""
    rows: dict[str, list[Mapping[str, float | None]]] = {}
    for result in results:
        rows.setdefault(result.item, []).append(result.scores)
    found: dict[str, dict[str, float] | None] = {}
    for item, own in rows.items():
        values = [{name: row.get(name) for name in (NATS, *UNITS)} for row in own]
        if any(value is None for row in values for value in row.values()):
            found[item] = None
            continue
        found[item] = {name: sum(row[name] or 0.0 for row in values) / len(values) for name in (NATS, *UNITS)}
    return found


def _summed(rows: Iterable[tuple[str, float, float]], clusters: Mapping[str, str]) -> tuple[list[float], list[float]]:
    """Sums over documents that move together."""
    sums: dict[str, float] = {}
    sizes: dict[str, float] = {}
    for item, total, size in rows:
        name = clusters.get(item, f"item:{item}")
        sums[name] = sums.get(name, 0.0) + total
        sizes[name] = sizes.get(name, 0.0) + size
    return list(sums.values()), list(sizes.values())


def _exponential(interval: Interval) -> Interval:
    return replace(interval, estimate=_exp(interval.estimate), low=_exp(interval.low), high=_exp(interval.high))


def _exp(value: float) -> float:
    """Infinite where no float holds it."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
