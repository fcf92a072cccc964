"""The ratio of a mean over items and shared noise seeds to a mean over the same items without noise."""

from __future__ import annotations

from numpy.typing import ArrayLike

from harness.stats.checks import FRACTIONS, ScoreError, matrix, same_items, vector
from harness.stats.interval import Interval
from harness.stats.quantiles import check_alpha
from harness.stats.two_way import LEAST_SEEDS
from harness.stats.units import Units


def two_way_ratio(
    noisy: ArrayLike, clean: ArrayLike, alpha: float = 0.05, clusters: ArrayLike | None = None
) -> Interval | None:
    """Return the retention mean(noisy) / mean(clean) over new items and new noise seeds, one-sided ``alpha`` per bound.

    ``noisy`` (items, noise seeds) are fractions where all items share the draws of a seed, ``clean`` (items,) those
    without noise, one per item and the same under every seed. The bounds enclose the ratios r at which the interval
    of :func:`harness.stats.two_way_mean` of the cells noisy - r * clean contains 0 (Fieller's way to a ratio).
    With ``clusters`` (items,) items of one cluster may move together.
    Returns ``None`` where undefined: fewer than two items, or a clean mean that cannot be told from 0. Raises
    :class:`ScoreError` on NaN, scores outside [0, 1], other items on a side, or fewer seeds than
    :data:`harness.stats.LEAST_SEEDS`, whose spread is not known.
    Sources: Fieller (1954), Journal of the Royal Statistical Society B 16, 175-185; as for ``two_way_mean``.
    """
    check_alpha(alpha)
    cells, reference = matrix(noisy, "noisy", FRACTIONS), vector(clean, "clean", FRACTIONS)
    same_items(cells[:, 0] if cells.size else cells.ravel(), reference)
    items, seeds = cells.shape
    if seeds < LEAST_SEEDS:
        raise ScoreError(
            f"{seeds} noise seeds",
            f"their spread is known from {LEAST_SEEDS} on",
            "use mean_ratio of the items' means, which is conditional on the seeds",
        )
    if items < 2:
        return None
    units = Units.of_ratio(cells, reference, clusters)
    bounds = units.ratio_bounds(alpha)
    return None if bounds is None else Interval(units.estimate, *bounds)
