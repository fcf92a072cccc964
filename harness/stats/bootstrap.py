"""The bootstrap that is reported beside the deciding interval and never decides."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha

_BATCH_CELLS = 1_000_000
"""Resampled values held at once (8 MB), whatever the number of items."""


@dataclass(frozen=True)
class BootstrapInterval(Interval):
    """A bootstrap interval; ``degenerate`` where all values are equal, so that its zero width says nothing."""

    degenerate: bool = False

    def to_json(self) -> dict[str, Any]:
        """As for :class:`Interval`, with ``degenerate``."""
        return {**super().to_json(), "degenerate": self.degenerate}


def _generator(seed: int, label: str) -> np.random.Generator:
    """A generator of its own for each (seed, label); the global state is neither read nor changed."""
    digest = hashlib.sha256(label.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16], "little")])


def bca_mean(
    differences: ArrayLike, alpha: float = 0.05, seed: int = 0, resamples: int = 10_000, label: str = ""
) -> BootstrapInterval:
    """BCa bootstrap interval of the mean (fraction) over items, each bound one-sided at ``alpha``.

    ``differences`` is 1-D with one entry per item (items are the clusters: all seeds of one item move together).
    Equal input gives equal output, bit for bit. Values that are all equal (also one, or none: estimate NaN) have
    no bootstrap: the bounds equal the estimate and ``degenerate`` is set. Raises ``ValueError`` unless the input
    is 1-D and finite. Source: Efron (1987), JASA 82, 171-185, as in scipy.
    """
    check_alpha(alpha)
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"differences of shape {values.shape}; one finite number per item is needed")
    estimate = float(values.mean()) if len(values) else math.nan
    if len(values) < 2 or float(np.ptp(values)) < 1e-12:
        return BootstrapInterval(estimate, estimate, estimate, degenerate=True)
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _BATCH_CELLS // len(values)),
        vectorized=True,
        confidence_level=1 - 2 * alpha,
        method="BCa",
        rng=_generator(seed, label),
    ).confidence_interval
    return BootstrapInterval(estimate, float(found.low), float(found.high))
