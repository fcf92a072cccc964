"""What a gate on distributions can tell, before any compute is spent: from the reference itself.

Nothing changed means the same weights under the same arithmetic: every divergence is 0 then, and the gate says PASS or
nothing ever will. How large a divergence it tells from its margin depends on how divergences vary over items, which
only a candidate shows; as an example stand items whose divergences are exponential (their standard deviation is their
mean; those of changed weights on the shipped checkpoint vary more).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from harness.gates.divergence import DivergencePolicy, Measured, levels_alone
from harness.gates.forecast import POWER, Forecast, joint_odds
from harness.gates.policy import GatePolicy
from harness.gates.verdicts import PASS
from harness.stats.bootstrap import private_generator
from harness.stats.odds import VerdictOdds
from harness.stats.skewed import SkewedMean

_SAMPLES = 1000


@dataclass(frozen=True)
class DivergenceForecast:
    """One level: ``items`` answers with ``tokens`` places, the ``margin``, what is left out at most (``short``; nats a
    token), whether an unchanged checkpoint would PASS, and, for exponential divergences of items, up to which true mean
    PASS and from which on FAIL has probability 0.8 (None: never)."""

    level: float
    items: int
    tokens: int
    margin: float
    short: float | None
    unchanged: str
    passes_to: float | None
    fails_from: float | None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


def forecast_divergences(
    reference: Measured, policy: GatePolicy, levels: Sequence[float]
) -> tuple[DivergenceForecast, ...]:
    """Return what the distributions of ``reference`` can tell at each of ``levels``; alarms are adjusted over as many
    levels of answers as well."""
    rules = replace(DivergencePolicy.of(policy), across=None)
    found = []
    for level in levels_alone(reference, reference, rules, levels):
        margin = rules.margin_at(level.level)
        high, low = (
            _bounds(level.items, rules.alpha, rules.alpha / (2 * len(levels))) if level.items > 1 else (0.0, 0.0)
        )
        found.append(
            DivergenceForecast(
                level.level,
                level.items,
                level.tokens,
                margin,
                level.short,
                level.verdict,
                margin / high if high and level.verdict == PASS else None,
                margin / low if low > 0 else None,
            )
        )
    return tuple(found)


def both_odds(answers: Sequence[Forecast], distributions: Sequence[DivergenceForecast]) -> VerdictOdds:
    """Return the odds of a gate on both if nothing changed: those of the answers, where the distributions PASS."""
    odds = joint_odds(answers)
    if all(level.unchanged == PASS for level in distributions):
        return odds
    return VerdictOdds(0.0, 1 - odds.failing, odds.failing)


def both_sentence(answers: Sequence[Forecast], distributions: Sequence[DivergenceForecast]) -> str:
    """Return :func:`both_odds` in words."""
    odds = both_odds(answers, distributions)
    return (
        f"the whole gate over answers at {len(answers)} levels and distributions at {len(distributions)}, if nothing"
        f" changed: PASS {odds.passing:.2f}, INCONCLUSIVE {odds.inconclusive:.2f}, FAIL {odds.failing:.2f}"
    )


@functools.cache
def _bounds(items: int, alpha: float, alarm: float) -> tuple[float, float]:
    """Of exponential values with mean 1: the upper bound at ``alpha`` that 80 % of samples do not exceed, and the lower
    bound at ``alarm`` that 80 % reach."""
    rng = private_generator(0, f"exponential {items}")
    means = [SkewedMean.of(rng.exponential(size=items)) for _ in range(_SAMPLES)]
    high = np.quantile([each.interval(alpha).high for each in means], POWER)
    low = np.quantile([each.interval(alarm).low for each in means], 1 - POWER)
    return float(high), float(low)
