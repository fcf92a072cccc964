"""Early stopping, simulated: how often it is wrong, and how many items it saves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.calibration.coverage import Effort, simulated
from harness.stats.bootstrap import private_generator
from harness.stats.interval import Interval
from harness.stats.odds import shares
from harness.stats.paired import tango
from harness.stats.sequential import BEYOND, DEFAULT_SHARE, WITHIN, early_stop

DROPS = (0.0, 0.02, 0.03, 0.04, 0.08)


@dataclass(frozen=True)
class EarlyCase:
    """Items in random order with a true drop (fractions); ``share`` of alpha goes to early stopping."""

    drop: float
    n: int = 1319
    discordance: float = 0.1
    margin: float = 0.03
    alpha: float = 0.05
    share: float = DEFAULT_SHARE


@dataclass(frozen=True)
class EarlyShares:
    """Shares of the runs (fractions with 99.9 % binomial intervals): stopped early, and decided early or at the end.

    ``items`` is the mean number of items evaluated. ``decided`` holds ``within`` and ``beyond``, final test included.
    """

    case: EarlyCase
    stopped: Interval
    decided: dict[str, Interval]
    items: float
    repetitions: int

    @property
    def wrong(self) -> Interval | None:
        """The share of wrong decisions: at a drop equal to the margin each side by itself (the larger), else the side
        that is untrue."""
        gap = self.case.drop - self.case.margin
        if abs(gap) < 1e-12:
            return max(self.decided.values(), key=lambda share: share.estimate)
        return self.decided[WITHIN if gap > 0 else BEYOND]

    @property
    def problems(self) -> tuple[str, ...]:
        """Whether errors come more often than alpha allows (with the discreteness of the final score test)."""
        wrong = self.wrong
        most = self.case.alpha + 0.01
        if wrong is None or wrong.low <= most:
            return ()
        return (f"wrong {wrong.estimate:.4f}, at most {most:g}",)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {
            **asdict(self.case),
            "repetitions": self.repetitions,
            "stopped": self.stopped.to_json(),
            "decided": {name: share.to_json() for name, share in self.decided.items()},
            "mean_items": self.items,
            "saved": 1 - self.items / self.case.n,
            "problems": list(self.problems),
        }


def simulate_early(case: EarlyCase, repetitions: int) -> EarlyShares:
    """Run ``case`` so many times: bets after every item, and Tango's interval at the alpha that is left."""
    rng = private_generator(0, f"{case}")
    lost, gained = shares(case.discordance, case.drop)
    stopped, items, decided = 0, 0, {WITHIN: 0, BEYOND: 0}
    for _ in range(repetitions):
        values = rng.choice([-1.0, 1.0, 0.0], size=case.n, p=[lost, gained, 1 - lost - gained])
        found = early_stop(values, case.margin, case.alpha, case.share)
        items += found.items
        stopped += found.decision is not None
        decision = found.decision or _final(values, case, found.alpha_left)
        if decision is not None:
            decided[decision] += 1
    return EarlyShares(
        case,
        simulated(stopped, repetitions),
        {name: simulated(count, repetitions) for name, count in decided.items()},
        items / repetitions,
        repetitions,
    )


def _final(values: np.ndarray, case: EarlyCase, alpha: float) -> str | None:
    if alpha <= 0:
        return None
    found = tango(int((values < 0).sum()), int((values > 0).sum()), len(values), alpha)
    if found.low > -case.margin:
        return WITHIN
    return BEYOND if found.high < -case.margin else None


def early_cases(effort: Effort) -> tuple[tuple[EarlyCase, int], ...]:
    """Return (case, repetitions) for every drop of :data:`DROPS` at a margin of 3 points."""
    return tuple((EarlyCase(drop), effort.matrices) for drop in DROPS)
