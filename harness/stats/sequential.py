"""Early stopping by betting: clear cases are decided before all items are evaluated, with the error rate kept.

Against each hypothesis about the mean difference a wealth of 1 is staked item by item; if the hypothesis is true the
expected wealth never exceeds 1, so by Ville's inequality it reaches 1 / a at any time with probability at most a.
Looking after every item therefore costs nothing but the share of alpha set aside for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.checks import DIFFERENCES, Floats, ScoreError, vector
from harness.stats.quantiles import check_alpha

STAKES = tuple(0.9 * 2.0**-power for power in range(6))
"""Shares of the largest possible stake, mixed evenly: one of them is near the best for any drop and discordance."""

DEFAULT_SHARE = 0.5
WITHIN, BEYOND = "within", "beyond"
"""The drop lies within the margin, or beyond it."""


@dataclass(frozen=True)
class EarlyStop:
    """Where a sequence of differences could have been stopped.

    ``decision`` is ``within`` (the drop is smaller than the margin), ``beyond`` (larger), or ``None``: not decided
    early, so that the final test is made at ``alpha_left``. ``items`` were looked at, of ``total``. ``e_within``
    and ``e_beyond`` are the e-values there, against "drop >= margin" and "drop <= margin". ``alpha_spent`` is what
    looking early costs, whether or not it stopped: each one-sided error keeps alpha_spent + alpha_left = alpha.
    ``alarms`` levels share it for ``beyond``.
    """

    decision: str | None
    items: int
    total: int
    e_within: float
    e_beyond: float
    alpha_spent: float
    alpha_left: float
    alarms: int = 1

    @property
    def saved(self) -> float:
        """Share of the items that need not be evaluated (fraction)."""
        return 1 - self.items / self.total if self.total else 0.0

    @property
    def label(self) -> str:
        """One sentence for reports."""
        if self.decision is None:
            ended = f"no early decision in {self.items} items"
        else:
            ended = f"stopped after {self.items} of {self.total} items: the drop is {self.decision} the margin"
        shared = f", {self.alarms / self.alpha_spent:g} for beyond at any of {self.alarms} levels"
        shared = shared if self.alarms > 1 else ""
        return (
            f"{ended} (e-value {self.e_within:.3g} for within, {self.e_beyond:.3g} for beyond, {1 / self.alpha_spent:g}"
            f" decides{shared}); early stopping has alpha {self.alpha_spent:g}, the final test {self.alpha_left:g}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "label": self.label}


def seeded_order(items: Sequence[str], seed: int) -> tuple[str, ...]:
    """Return ``items`` in an order that depends on their names and ``seed`` only. Raises :class:`ScoreError` on
    duplicates.

    The order must not depend on any score: stopping early is valid for items in random order.
    """
    if len(set(items)) != len(items):
        raise ScoreError("an item is given twice", "an item counts once", "drop the duplicate")
    return tuple(sorted(items, key=lambda item: hashlib.sha256(f"{seed}|{item}".encode()).digest()))


def _wealth(excess: Floats, largest: float) -> Floats:
    """The e-process (items,) of mixed stakes on ``excess`` > 0; ``largest`` keeps every factor positive."""
    stakes = largest * np.array(STAKES)
    logs = np.cumsum(np.log1p(np.multiply.outer(stakes, excess)), axis=1)
    peak = logs.max(axis=0)
    found: Floats = np.exp(np.minimum(peak, 600.0)) * np.exp(logs - peak).mean(axis=0)
    return found


def e_processes(differences: ArrayLike, margin: float, most: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Return E-values after every item (items,), against "drop >= margin" and against "drop <= margin".

    ``differences`` (candidate - baseline, in [-1, 1], seeded random order), ``margin`` a fraction in [0, 1). Where an
    item was not fully measured, ``differences`` holds the least that its difference may be and ``most`` the greatest
    (default: the same): each e-value then counts it against its own claim.
    Each is a non-negative supermartingale starting at 1 under its hypothesis.
    Source: Waudby-Smith and Ramdas (2024), JRSS B 86, 1-27 (hedged betting with a fixed mixture of stakes).
    """
    if not 0 <= margin < 1:
        raise ScoreError(f"margin {margin!r}", "it is a fraction, at least 0 and below 1", "write 0.03 for 3 points")
    least = vector(differences, "differences", DIFFERENCES)
    greatest = least if most is None else vector(most, "most", DIFFERENCES)
    if len(greatest) != len(least):
        raise ScoreError(f"{len(least)} differences and {len(greatest)} of most", "each item has one of both")
    return _wealth(least + margin, 1 / (1 - margin)), _wealth(-greatest - margin, 1 / (1 + margin))


def early_stop(
    differences: ArrayLike,
    margin: float,
    alpha: float = 0.05,
    share: float = DEFAULT_SHARE,
    *,
    most: ArrayLike | None = None,
    planned: int | None = None,
    alarms: int = 1,
) -> EarlyStop:
    """Return where the items, taken in the order given, first decide whether the drop is within ``margin`` (fraction).

    ``share`` of the one-sided ``alpha`` is spent on looking after every item; the rest is left for the final
    test. By the union bound the probability of a wrong ``within`` (or ``beyond``), early or final, is at most alpha.
    ``alarms`` is the number of levels that are looked at together: ``beyond`` at any of them is an alarm, so each has
    its share of what is spent (Bonferroni).
    ``most`` is that of :func:`e_processes`; ``planned`` counts the items there would be (default: those given).
    No items: no decision. Raises :class:`ScoreError` on a difference outside [-1, 1], NaN, or a share outside (0, 1].
    """
    check_alpha(alpha)
    if not 0 < share <= 1:
        raise ScoreError(f"share {share!r}", "the share of alpha for early stopping lies in (0, 1]", "use 0.5")
    within, beyond = e_processes(differences, margin, most)
    given, spent = len(within), alpha * share
    crossed = np.flatnonzero((within >= 1 / spent) | (beyond >= alarms / spent))
    items = int(crossed[0]) + 1 if len(crossed) else given
    values = (float(within[items - 1]), float(beyond[items - 1])) if given else (1.0, 1.0)
    decision = None
    if len(crossed):
        decision = WITHIN if values[0] >= max(values[1], 1 / spent) else BEYOND
    total = given if planned is None else planned
    return EarlyStop(decision, items, total, *values, spent, max(0.0, alpha - spent), alarms)
