"""What a gate against a baseline can tell, before any compute is spent: from the baseline's own discordance.

"Nothing changed" means a checkpoint of the same quality whose draws are independent of the baseline's: how often two
noise seeds of the baseline disagree on an item says how often its outcomes would. The clean level has one draw, so
that its discordance has to be assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.exceptions import HarnessError
from harness.gates.pairing import Cells, Floats, seeds_of
from harness.gates.policy import GatePolicy
from harness.record import Arm
from harness.stats.odds import VerdictOdds, items_to_pass, verdict_odds, verdict_odds_mean
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
    level alone, ``alarm`` the chance of a FAIL that stands after Holm over all levels.
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
        """A plain dictionary."""
        return asdict(self) | {"odds": self.odds.to_json(), "warning": self.warning}


def forecast(
    baseline: Arm, policy: GatePolicy | None = None, discordance: float = ASSUMED_DISCORDANCE
) -> tuple[LevelForecast, ...]:
    """What a gate under ``policy`` can tell at each level of ``baseline``, ascending.

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
    return tuple(_level(cells[level], level, policy, discordance, len(judged)) for level in judged)


def joint_odds(levels: Sequence[LevelForecast]) -> VerdictOdds:
    """Odds of the whole gate if nothing changed: every level must PASS, and a FAIL that stands after Holm decides.

    The levels' draws are taken as independent, which their common items make slightly untrue: where they move together
    PASS is a little more probable than said. No level: all is inconclusive.
    """
    if not levels:
        return VerdictOdds(0.0, 1.0, 0.0)
    passing = math.prod(level.odds.passing for level in levels)
    failing = 1 - math.prod(1 - level.alarm for level in levels)
    return VerdictOdds(passing, max(0.0, 1 - passing - failing), failing)


def joint_sentence(levels: Sequence[LevelForecast]) -> str:
    """:func:`joint_odds` in words."""
    odds = joint_odds(levels)
    return (
        f"the whole gate over {len(levels)} level{'s' * (len(levels) != 1)}, if nothing changed: PASS"
        f" {odds.passing:.2f}, INCONCLUSIVE {odds.inconclusive:.2f}, FAIL {odds.failing:.2f}"
    )


def _level(cells: Cells, level: float, policy: GatePolicy, assumed: float, levels: int) -> LevelForecast:
    seeds = len(seeds_of(cells))
    scores = _complete(cells, seeds)
    # with early stopping the final test alone, which leaves out what an early PASS adds
    n, margin, alpha = len(scores), policy.margin_at(level), policy.alpha_left or policy.alpha
    if seeds < 2:
        odds = verdict_odds(n, assumed, margin, alpha=alpha)
        effect = minimum_detectable_effect(assumed**0.5, n, alpha, POWER)
        items = items_to_pass(assumed, margin, alpha=alpha, power=POWER)
        alarm = verdict_odds(n, assumed, margin, alpha=alpha / levels).failing
        return LevelForecast(level, n, seeds, assumed, False, margin, effect, odds, items, None, alarm)
    within = float(scores.var(axis=1, ddof=1).mean()) if n else 0.0

    def sd(count: int) -> float:
        """Of the per-item difference of two means over ``count`` independent draws each."""
        return math.sqrt(2 * within / count)

    odds = verdict_odds_mean(n, sd(seeds), margin, alpha=alpha)
    return LevelForecast(
        level,
        n,
        seeds,
        2 * within,
        True,
        margin,
        minimum_detectable_effect(sd(seeds), n, alpha, POWER),
        odds,
        _least(lambda count: verdict_odds_mean(count, sd(seeds), margin, alpha=alpha).passing, MAX_ITEMS),
        _least(lambda count: verdict_odds_mean(n, sd(count), margin, alpha=alpha).passing, MOST_SEEDS),
        verdict_odds_mean(n, sd(seeds), margin, alpha=alpha / levels).failing,
    )


def _complete(cells: Cells, seeds: int) -> Floats:
    """The scores (items, seeds) of the items that were measured with every seed."""
    rows = [
        [row[seed].right for seed in sorted(row)]
        for row in cells.values()
        if len(row) == seeds and all(outcome.measured for outcome in row.values())
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), seeds)


def _least(passing: Callable[[int], float], most: int) -> int | None:
    """The smallest number for which PASS has probability :data:`POWER`, None where even ``most`` is not enough."""
    if passing(most) < POWER:
        return None
    below, enough = 0, 1
    while passing(enough) < POWER:
        below, enough = enough, min(2 * enough, most)
    while enough - below > 1:
        middle = (below + enough) // 2
        if passing(middle) >= POWER:
            enough = middle
        else:
            below = middle
    return enough
