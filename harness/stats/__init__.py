"""Intervals, bootstraps and sample sizes for paired scores (numpy, scipy and statsmodels; never torch).

Every bound is one-sided at level ``alpha``, so that ``(low, high)`` is a two-sided interval at ``1 - 2 * alpha``.
Accuracies and differences are fractions.
"""

from harness.stats.bootstrap import BootstrapInterval, bca_mean
from harness.stats.interval import Interval
from harness.stats.means import mean_ratio, paired_mean, score_mean
from harness.stats.paired import ratio_score, tango
from harness.stats.power import (
    MAX_ITEMS,
    items_needed_mean,
    items_needed_paired,
    items_needed_ratio,
    minimum_detectable_effect,
)
from harness.stats.proportion import wilson
from harness.stats.quantiles import zero_discordance

__all__ = [
    "MAX_ITEMS",
    "BootstrapInterval",
    "Interval",
    "bca_mean",
    "items_needed_mean",
    "items_needed_paired",
    "items_needed_ratio",
    "mean_ratio",
    "minimum_detectable_effect",
    "paired_mean",
    "ratio_score",
    "score_mean",
    "tango",
    "wilson",
    "zero_discordance",
]
