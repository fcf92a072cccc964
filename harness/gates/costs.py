"""What an evaluation costs, in seconds of wall time, as a function of how many items and noise seeds it has.

The seconds of :class:`Costs` were measured on the machine that is going to run it; everything here is arithmetic, so
that equal costs give equal forecasts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.runs.choice import STRATA
from harness.thresholds import CONTROL_ITEMS, REPLAY_LEAST, REPLAY_SHARE

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """Seconds at one level: of a ``batch`` whatever is in it, of each ``record``, and of the ``audit`` for each record
    of an audited batch."""

    batch: float
    record: float
    audit: float = 0.0


@dataclass(frozen=True)
class Costs:
    """Seconds, measured. ``spent``: what is gone before the first record (start-up, loading, the calibration itself)
    or is needed whatever is chosen; ``clean`` and ``noisy`` are the rates of level 0 and of every level above it;
    ``replay`` is of loading the model anew, and of each replayed record; ``control`` of the positive control."""

    spent: float
    clean: Rate
    noisy: Rate
    replay: tuple[float, float]
    control: float
    batch_size: int

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {**asdict(self), "replay": list(self.replay)}


@dataclass(frozen=True)
class Sweep:
    """What is evaluated of every item: ``noisy`` levels above 0 with every seed, and level 0 once, or with every seed
    where ``sampled``. ``control``: whether the positive control runs. ``block``: items between two looks where it may
    stop early, 0 where it does not."""

    noisy: int
    sampled: bool = False
    control: bool = True
    block: int = 0


def seconds(costs: Costs, sweep: Sweep, items: Counts, seeds: int) -> Floats:
    """Return the forecast of the whole evaluation for every number of ``items``, float (items,): it grows with items
    and seeds."""
    clean_draws = seeds if sweep.sampled else 1
    fixed = costs.spent + costs.replay[0] + costs.control * sweep.control
    twice = np.minimum(items * clean_draws, REPLAY_LEAST)
    total = fixed + costs.clean.batch + twice * costs.clean.record
    for rate, levels, draws in ((costs.clean, 1, clean_draws), (costs.noisy, sweep.noisy, seeds)):
        if sweep.block:
            whole, rest = np.divmod(items, sweep.block)
            ran = whole * _level(costs, rate, np.array([sweep.block * draws])) + _level(costs, rate, rest * draws)
        else:
            ran = _level(costs, rate, items * draws)
        total = total + levels * (ran + _replayed(items * draws) * costs.replay[1])
    return np.asarray(total, dtype=np.float64)


def _level(costs: Costs, rate: Rate, records: Counts) -> Floats:
    batches = -(-records // costs.batch_size)
    audited = np.minimum(records, np.minimum(batches, STRATA) * costs.batch_size)
    return np.asarray(batches * rate.batch + records * rate.record + audited * rate.audit)


def _replayed(records: Counts) -> Floats:
    """As :func:`harness.runs.replayed.quota`."""
    return np.asarray(np.minimum(records, np.maximum(REPLAY_LEAST, np.ceil(REPLAY_SHARE * records))))


def control_seconds(rate: Rate, steps: int, longest: int) -> float:
    """Return the seconds of the positive control by the ``rate`` of noisy records that took ``steps`` forwards, where
    answers may take ``longest``: destroyed answers are as long as they may be."""
    return (rate.batch + CONTROL_ITEMS * rate.record) * max(1.0, longest / max(1, steps))
