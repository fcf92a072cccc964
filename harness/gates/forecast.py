"""What a gate against a baseline can tell, before any compute is spent: from the baseline's own discordance.

"Nothing changed" means a checkpoint that answers every item with the baseline's own chance, by independent draws (one
of the same mean that is better at some items and worse at others differs more): how often two
noise seeds of the baseline disagree on an item says how often its outcomes would. The clean level has one draw, so
that its discordance has to be assumed (of sampled answers it has as many as the others).

In a gate both sides share the draws of noise and of sampling (common random numbers). Where their outcomes go together
the variance of the paired difference is less than that of independent draws, by how much nobody can know before there
is a candidate: PASS is then at least as probable as said, and fewer items are enough (docs/sampling.md has ratios).

Where the baseline's items come in clusters, the variance is multiplied by the design effect and the degrees of freedom
are those of the effective number of clusters. The correlation within clusters is that of the differences between
neighbouring noise seeds; with one draw, that of the outcomes themselves, which stands for the one that nobody measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.exceptions import HarnessError
from harness.gates.nats_forecast import NatsForecast, nats_forecast
from harness.gates.pairing import Cells, Floats, seeds_of
from harness.gates.perplexity import is_continuous
from harness.gates.policy import GatePolicy
from harness.record import Arm
from harness.stats.intraclass import design_effect, effective_clusters, intraclass
from harness.stats.odds import VerdictOdds, items_to_pass, least_passing, verdict_odds, verdict_odds_mean
from harness.stats.power import MAX_ITEMS, minimum_detectable_effect

ASSUMED_DISCORDANCE = 0.05
"""Share of items whose outcome differs between two runs (fraction), where nothing says better."""

POWER = 0.8
MOST_SEEDS = 1000


@dataclass(frozen=True)
class LevelForecast:
    """One level; fractions throughout.

    ``discordance`` is the share of pairs of draws that disagree, ``own`` False where it is assumed; ``effect`` the
    minimum detectable effect (one-sided alpha, power 0.8); ``items`` and ``seeds`` what would be enough for PASS with
    probability 0.8 if nothing changed, each with the other as it is, None where no number is. ``odds`` are those of the
    level alone, ``alarm`` the chance of a FAIL that stands after Holm over all levels. ``clusters`` counts the clusters
    of the items, ``None`` where each item stands by itself; ``design`` is by how much they multiply the variance.
    """

    level: float
    n: int
    noise_seeds: int
    discordance: float
    own: bool
    margin: float
    effect: float
    odds: VerdictOdds
    items: int | None
    seeds: int | None
    alarm: float = 0.0
    clusters: int | None = None
    design: float = 1.0

    @property
    def warning(self) -> str | None:
        """What is wrong with the margin, None where it can be told."""
        if self.margin >= self.effect:
            return None
        return (
            f"level {100 * self.level:g} %: the margin of {100 * self.margin:.2f} points lies below the minimum"
            f" detectable effect of {100 * self.effect:.2f} points: PASS has probability {self.odds.passing:.2f} even"
            " if nothing changed"
        )

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self) | {"odds": self.odds.to_json(), "warning": self.warning}


Forecast = LevelForecast | NatsForecast
"""Of right and wrong answers, or of log-likelihoods of texts."""


def forecast(
    baseline: Arm,
    policy: GatePolicy | None = None,
    discordance: float = ASSUMED_DISCORDANCE,
    family: int | None = None,
) -> tuple[Forecast, ...]:
    """Return what a gate under ``policy`` can tell at each level of ``baseline``, ascending.

    ``family`` counts the levels that alarms are adjusted over, where other tasks are judged together with this one.
    ``discordance`` (fraction, above 0 and at most 1) is taken where the baseline has one draw per item. Raises
    :class:`HarnessError` where it is out of range.
    """
    if not 0 < discordance <= 1:
        raise HarnessError(
            f"discordance {discordance!r}", "a fraction above 0 and at most 1", "write 0.05 for one pair in twenty"
        )
    policy = policy or GatePolicy()
    levels = policy.levels or tuple(sorted(baseline.outcomes))
    cells = baseline.outcomes
    judged = [level for level in levels if level in cells]
    count = family or len(judged)
    if is_continuous(baseline.key):
        return nats_forecast(baseline, policy, judged, count)
    return tuple(_level(cells[level], level, policy, discordance, count, baseline.clusters) for level in judged)


def forecast_tasks(
    baselines: Mapping[str, Arm], policy: GatePolicy, discordance: float = ASSUMED_DISCORDANCE
) -> dict[str, tuple[Forecast, ...]]:
    """Return task -> what a gate under one ``policy`` over all of ``baselines`` (task -> its baseline) can tell: alarms
    are adjusted over the levels of all tasks."""
    judged = {task: policy.levels or tuple(arm.outcomes) for task, arm in baselines.items()}
    count = sum(level in baselines[task].outcomes for task, levels in judged.items() for level in levels)
    return {task: forecast(arm, policy.within(judged[task]), discordance, count) for task, arm in baselines.items()}


def joint_odds(levels: Sequence[Forecast]) -> VerdictOdds:
    """Return the odds of the whole gate if nothing changed: every level must PASS, and a FAIL that stands after Holm
    decides.

    The levels' draws are taken as independent, which their common items make slightly untrue: where they move together
    PASS is a little more probable than said. No level: all is inconclusive.
    """
    if not levels:
        return VerdictOdds(0.0, 1.0, 0.0)
    passing = math.prod(level.odds.passing for level in levels)
    failing = 1 - math.prod(1 - level.alarm for level in levels)
    return VerdictOdds(passing, max(0.0, 1 - passing - failing), failing)


def joint_sentence(levels: Sequence[Forecast], tasks: int = 1) -> str:
    """Return :func:`joint_odds` in words; the levels are those of so many ``tasks``."""
    odds = joint_odds(levels)
    of = f" of {tasks} tasks" if tasks > 1 else ""
    return (
        f"the whole gate over {len(levels)} level{'s' * (len(levels) != 1)}{of}, if nothing changed: PASS"
        f" {odds.passing:.2f}, INCONCLUSIVE {odds.inconclusive:.2f}, FAIL {odds.failing:.2f}"
    )


def correlation_of(scores: Floats, names: Sequence[str]) -> float:
    """Return how much the items of one cluster move together: the intra-cluster correlation of the differences between
    neighbouring noise seeds of ``scores`` (items, seeds), or with one draw of the outcomes; ``names`` has the cluster
    of each item, at least two of them, one with two items."""
    columns = scores[:, 1:] - scores[:, :-1] if scores.shape[1] > 1 else scores
    return float(np.mean([intraclass(column, names).estimate for column in columns.T]))


@dataclass(frozen=True)
class _Layout:
    """As how many independent units items in clusters count: ``worth`` for each item, and the ``design`` effect."""

    clusters: int | None = None
    worth: float = 1.0
    design: float = 1.0

    @classmethod
    def of(cls, scores: Floats, names: Sequence[str] | None) -> _Layout:
        if names is None or len(set(names)) == len(names):
            return cls()
        count = len(set(names))
        if count < 2:  # one cluster says nothing about others
            return cls(count, 1 / len(names), float(len(names)))
        correlation = correlation_of(scores, names)
        return cls(count, effective_clusters(names) / len(names), design_effect(correlation, names))

    def units(self, items: int) -> int:
        return items if self.clusters is None else math.floor(items * self.worth + 1e-9)

    def odds(self, items: int, sd: float, margin: float, alpha: float) -> VerdictOdds:
        """Of item means whose standard deviation is ``sd``, or of as many clusters."""
        return verdict_odds_mean(self.units(items), self.spread(items, sd), margin, alpha=alpha)

    def effect(self, items: int, sd: float, alpha: float) -> float:
        return minimum_detectable_effect(self.spread(items, sd), self.units(items), alpha, POWER)

    def spread(self, items: int, sd: float) -> float:
        """The standard deviation of a unit that gives the mean over ``items`` its standard error."""
        if self.clusters is None:
            return sd
        return sd * math.sqrt(self.design * self.units(items) / max(1, items))


def _level(
    cells: Cells, level: float, policy: GatePolicy, assumed: float, levels: int, clusters: Mapping[str, str]
) -> LevelForecast:
    seeds = len(seeds_of(cells))
    items, scores = complete_scores(cells, seeds)
    names = [clusters.get(item, f"item {item}") for item in items] if clusters else None
    layout = _Layout.of(scores, names)
    # with early stopping the final test alone, which leaves out what an early PASS adds
    n, margin, alpha = len(scores), policy.margin_at(level), policy.alpha_left or policy.alpha
    own = seeds >= 2
    within = float(scores.var(axis=1, ddof=1).mean()) if n and own else 0.0

    def sd(count: int) -> float:
        """Of the per-item difference of two means over ``count`` independent draws each."""
        return math.sqrt(2 * within / count) if own else math.sqrt(assumed)

    def odds(items: int, count: int, alpha: float = alpha) -> VerdictOdds:
        if own or layout.clusters is not None:
            return layout.odds(items, sd(count), margin, alpha)
        return verdict_odds(items, assumed, margin, alpha=alpha)

    if own or layout.clusters is not None:
        enough = least_passing(lambda count: odds(count, seeds).passing, MAX_ITEMS, POWER)
    else:
        enough = items_to_pass(assumed, margin, alpha=alpha, power=POWER)
    return LevelForecast(
        level,
        n,
        seeds,
        2 * within if own else assumed,
        own,
        margin,
        layout.effect(n, sd(seeds), alpha),
        odds(n, seeds),
        enough,
        least_passing(lambda count: odds(n, count).passing, MOST_SEEDS, POWER) if own else None,
        odds(n, seeds, alpha / levels).failing,
        layout.clusters,
        layout.design,
    )


def complete_scores(cells: Cells, seeds: int) -> tuple[list[str], Floats]:
    """Return the items that were measured with every seed, and their scores (items, seeds), fractions."""
    rows = {
        item: [row[seed].right for seed in sorted(row)]
        for item, row in cells.items()
        if len(row) == seeds and all(outcome.measured for outcome in row.values())
    }
    return list(rows), np.array(list(rows.values()), dtype=np.float64).reshape(len(rows), seeds)
