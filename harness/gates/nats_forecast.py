"""What a gate on log-likelihoods of texts can tell, before any compute is spent: from the baseline's own noise seeds.

"Nothing changed" means the same losses with other draws: two noise seeds of the baseline say how far a document moves
between them. The clean level has one draw, so that its spread is assumed: that of what the lowest noise level costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from harness.gates.nats import LEAST_DOCUMENTS
from harness.gates.pairing import Cells, Floats, seeds_of
from harness.gates.policy import GatePolicy
from harness.record import Arm, TextOutcome
from harness.stats.intraclass import equal_sizes
from harness.stats.odds import VerdictOdds, least_passing
from harness.stats.quantiles import t_quantile, z_quantile

POWER = 0.8
MOST_DOCUMENTS, MOST_SEEDS = 1_000_000, 1000


@dataclass(frozen=True)
class NatsForecast:
    """One level; nats a token.

    ``n`` counts documents, ``effective`` as how many of one length they (or their clusters) count. ``sd`` is the
    standard deviation of what one of mean length loses if nothing changed, ``own`` False where it is assumed, None
    where nothing says it. ``effect`` is the minimum detectable effect (one-sided alpha, power 0.8), ``items`` and
    ``seeds`` what would be enough for PASS with probability 0.8, each with the other as it is, None where no number is.
    ``odds`` are those of the level alone, ``alarm`` the chance of a FAIL that stands after Holm over all levels.
    """

    level: float
    n: int
    tokens: int
    effective: float
    noise_seeds: int
    sd: float | None
    own: bool
    margin: float | None
    effect: float | None
    odds: VerdictOdds
    items: int | None
    seeds: int | None
    alarm: float = 0.0

    @property
    def warning(self) -> str | None:
        """What is wrong with the documents or with the margin, None where it can be told."""
        where = f"level {100 * self.level:g} %"
        if self.effective < LEAST_DOCUMENTS:
            return (
                f"{where}: documents that count as {self.effective:.1f} of equal length cannot PASS,"
                f" {LEAST_DOCUMENTS} can"
            )
        if self.margin is None or self.effect is None or self.margin >= self.effect:
            return None
        return (
            f"{where}: the margin of {self.margin:g} nats a token lies below the minimum detectable effect of"
            f" {self.effect:.4g}: PASS has probability {self.odds.passing:.2f} even if nothing changed"
        )

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self) | {"odds": self.odds.to_json(), "warning": self.warning}


@dataclass(frozen=True)
class _Units:
    """The documents of a level, or clusters of them: ``tokens`` (units,), ``nats`` (units, seeds)."""

    tokens: Floats
    nats: Floats

    @classmethod
    def of(cls, cells: Cells, clusters: Mapping[str, str]) -> _Units:
        seeds = seeds_of(cells)
        numbers: dict[str, int] = {}
        for item in sorted(cells):
            numbers.setdefault(clusters.get(item, f"item:{item}"), len(numbers))
        tokens, nats = np.zeros(len(numbers)), np.zeros((len(numbers), len(seeds)))
        for item, row in cells.items():
            unit = numbers[clusters.get(item, f"item:{item}")]
            for column, seed in enumerate(seeds):
                outcome = row.get(seed)
                if isinstance(outcome, TextOutcome) and outcome.nats is not None:
                    nats[unit, column] += outcome.nats
                    tokens[unit] += outcome.tokens / len(seeds)
        return cls(tokens, nats)

    def spread(self, lost: Floats, count: float) -> float:
        """The standard deviation of ``lost`` (units,) of one of mean length, in nats a token, over ``count`` draws."""
        residual = lost - lost.sum() / self.tokens.sum() * self.tokens
        return float(np.sqrt(np.square(residual).sum() / max(1, len(lost) - 1) / count)) / float(self.tokens.mean())


def nats_forecast(baseline: Arm, policy: GatePolicy, levels: Sequence[float], family: int) -> tuple[NatsForecast, ...]:
    """Return what a gate under ``policy`` can tell at each of ``levels`` of ``baseline``; alarms are adjusted over a
    ``family`` of so many levels."""
    units = {level: _Units.of(baseline.outcomes[level], baseline.clusters) for level in baseline.outcomes}
    return tuple(_level(baseline, level, policy, family, units) for level in levels)


def _level(baseline: Arm, level: float, policy: GatePolicy, family: int, units: Mapping[float, _Units]) -> NatsForecast:
    own, cells = units[level], baseline.outcomes[level]
    seeds, margin = own.nats.shape[1], policy.nats_margin_at(level)
    effective, count = equal_sizes(own.tokens), len(own.tokens)
    one = math.sqrt(2) * _within(own) if seeds > 1 else _assumed(own, level, units)

    def sd(draws: int) -> float:
        return math.nan if one is None else one / math.sqrt(draws)

    def odds(share: float, draws: int, alpha: float = policy.alpha) -> VerdictOdds:
        """Of ``share`` times as many documents."""
        return _odds(effective * share, sd(draws) / math.sqrt(count * share), margin, alpha)

    enough = least_passing(lambda n: odds(n / count, seeds).passing, MOST_DOCUMENTS, POWER)
    error = sd(seeds) / math.sqrt(count)
    known = one is not None and effective >= 2
    return NatsForecast(
        level,
        len(cells),
        round(float(own.tokens.sum())),
        effective,
        seeds,
        None if one is None else sd(seeds),
        seeds > 1,
        margin,
        (t_quantile(policy.alpha, effective - 1) + z_quantile(1 - POWER)) * error if known else None,
        odds(1.0, seeds),
        None if enough is None else math.ceil(enough * len(cells) / count),
        least_passing(lambda draws: odds(1.0, draws).passing, MOST_SEEDS, POWER) if seeds > 1 else None,
        odds(1.0, seeds, policy.alpha / family).failing,
    )


def _within(units: _Units) -> float:
    """The standard deviation between two draws of one unit, of mean length (nats a token)."""
    return float(np.sqrt(units.nats.var(axis=1, ddof=1).mean())) / float(units.tokens.mean())


def _assumed(own: _Units, level: float, units: Mapping[float, _Units]) -> float | None:
    """How far documents lie apart in what the lowest other level costs them, None where there is no other."""
    others = [units[other] for other in sorted(units) if other != level]
    fitting = [other for other in others if len(other.tokens) == len(own.tokens)]
    if not fitting:
        return None
    return own.spread(own.nats[:, 0] - fitting[0].nats[:, 0], 1.0)


def _odds(effective: float, error: float, margin: float | None, alpha: float) -> VerdictOdds:
    """If nothing changed, by noncentral t; too few documents decide nothing."""
    if margin is None or effective < LEAST_DOCUMENTS - 1e-9:
        return VerdictOdds(0.0, 1.0, 0.0)
    if not error > 0:  # nothing moves, or nothing says how far
        return VerdictOdds(1.0, 0.0, 0.0)
    t = t_quantile(alpha, effective - 1)
    passing, failing = (float(stats.nct.sf(t, effective - 1, sign * margin / error)) for sign in (1, -1))
    passing, failing = (0.0 if math.isnan(each) else each for each in (passing, failing))
    return VerdictOdds(passing, max(0.0, 1 - passing - failing), failing)
