"""Intervals, tests, families, sample sizes and early stopping for paired scores (numpy, scipy, statsmodels; no torch).

Every bound is one-sided at level ``alpha``, so that ``(low, high)`` is a two-sided interval at ``1 - 2 * alpha``.
Accuracies and differences are fractions.
"""

from harness.stats.bootstrap import BootstrapInterval, bca_mean, cluster_bca, cluster_bootstrap, percentile_mean
from harness.stats.checks import (
    DIFFERENCES,
    FRACTIONS,
    REAL,
    ScoreError,
    ScoreRange,
    ScoreTable,
    score_table,
)
from harness.stats.clustered import cluster_standard_error
from harness.stats.continuous import continuous_mean, perplexity_ratio
from harness.stats.equivalence import (
    MarginTest,
    equivalence_independent,
)
from harness.stats.hierarchical import HierarchicalInterval, hierarchical_mean
from harness.stats.interval import Interval
from harness.stats.means import mean_ratio, paired_mean, score_mean
from harness.stats.multiplicity import FAMILIES, Family, judge_family
from harness.stats.newcombe import newcombe
from harness.stats.odds import VerdictOdds, items_to_pass, verdict_odds, verdict_odds_mean
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
from harness.stats.sequential import EarlyStop, e_processes, early_stop, seeded_order
from harness.stats.significance import (
    TestResult,
    mcnemar_exact,
    mcnemar_mid_p,
    welch_t,
)
from harness.stats.skewed import SkewedMean
from harness.stats.tails import UNDECIDED, Tails, mean_ratio_tails, mean_tails, ratio_tails, tango_tails, two_way_tails
from harness.stats.two_way import LEAST_SEEDS, TwoWayInterval, two_way_mean
from harness.stats.two_way_ratio import two_way_ratio

__all__ = [
    "DIFFERENCES",
    "FAMILIES",
    "FRACTIONS",
    "LEAST_SEEDS",
    "MAX_ITEMS",
    "REAL",
    "UNDECIDED",
    "BootstrapInterval",
    "EarlyStop",
    "Family",
    "HierarchicalInterval",
    "Interval",
    "MarginTest",
    "ScoreError",
    "ScoreRange",
    "ScoreTable",
    "SkewedMean",
    "Tails",
    "TestResult",
    "TwoWayInterval",
    "VerdictOdds",
    "bca_mean",
    "cluster_bca",
    "cluster_bootstrap",
    "cluster_standard_error",
    "continuous_mean",
    "e_processes",
    "early_stop",
    "equivalence_independent",
    "hierarchical_mean",
    "items_needed_mean",
    "items_needed_paired",
    "items_needed_ratio",
    "items_to_pass",
    "judge_family",
    "mcnemar_exact",
    "mcnemar_mid_p",
    "mean_ratio",
    "mean_ratio_tails",
    "mean_tails",
    "minimum_detectable_effect",
    "newcombe",
    "paired_mean",
    "percentile_mean",
    "perplexity_ratio",
    "ratio_score",
    "ratio_tails",
    "score_mean",
    "score_table",
    "seeded_order",
    "tango",
    "tango_tails",
    "two_way_mean",
    "two_way_ratio",
    "two_way_tails",
    "verdict_odds",
    "verdict_odds_mean",
    "welch_t",
    "wilson",
    "zero_discordance",
]
