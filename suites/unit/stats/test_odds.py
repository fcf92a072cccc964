"""The planner's odds of PASS, INCONCLUSIVE and FAIL."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.stats import (
    ScoreError,
    VerdictOdds,
    items_to_pass,
    paired_mean,
    tango,
    verdict_odds,
    verdict_odds_mean,
)
from harness.stats import odds as odds_module
from harness.stats.odds import score_statistic

pytestmark = pytest.mark.unit


def by_hand(n: int, discordance: float, margin: float, drop: float, alpha: float) -> tuple[float, float]:
    """PASS and FAIL added up over every table with the interval itself."""
    lost_share, gained_share = (discordance + drop) / 2, (discordance - drop) / 2
    passing = failing = 0.0
    for lost in range(n + 1):
        for gained in range(n + 1 - lost):
            weight = stats.multinomial.pmf(
                [lost, gained, n - lost - gained], n, [lost_share, gained_share, 1 - discordance]
            )
            found = tango(lost, gained, n, alpha)
            passing += weight * (found.low > -margin)
            failing += weight * (found.high < -margin)
    return passing, failing


@pytest.mark.parametrize(
    ("n", "discordance", "margin", "drop", "alpha"),
    [(30, 0.2, 0.1, 0.0, 0.05), (40, 0.1, 0.05, 0.05, 0.05), (25, 0.3, 0.15, 0.3, 0.01), (20, 0.0, 0.2, 0.0, 0.05)],
)
def test_the_odds_are_those_of_the_interval(
    n: int, discordance: float, margin: float, drop: float, alpha: float
) -> None:
    found = verdict_odds(n, discordance, margin, drop, alpha)
    assert (found.passing, found.failing) == pytest.approx(by_hand(n, discordance, margin, drop, alpha), abs=1e-8)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 300), st.floats(0.005, 0.4))
def test_the_statistic_decides_as_the_interval_does(lost: int, gained: int, rest: int, margin: float) -> None:
    n = lost + gained + rest
    if n == 0:
        return
    found = tango(lost, gained, n)
    if min(abs(found.low + margin), abs(found.high + margin)) < 1e-9:
        return
    statistic = float(score_statistic(np.array([lost]), np.array([gained]), n, -margin)[0])
    z = stats.norm.isf(0.05)
    assert ((statistic > z), (statistic < -z)) == ((found.low > -margin), (found.high < -margin))


def test_the_normal_approximation_takes_over_smoothly(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = verdict_odds(40_000, 0.2, 0.005, 0.001)
    monkeypatch.setattr(odds_module, "_EXACT_UP_TO", 10.0)
    normal = verdict_odds(40_000, 0.2, 0.005, 0.001)
    assert normal.passing == pytest.approx(exact.passing, abs=0.005)
    assert verdict_odds(9_000_000, 0.3, 0.01).passing == pytest.approx(1.0)


def test_the_odds_of_means_agree_with_a_simulation() -> None:
    n, sd, margin, drop = 150, 0.25, 0.05, 0.01
    odds = verdict_odds_mean(n, sd, margin, drop)
    rng = np.random.default_rng(0)
    lows = [paired_mean(np.clip(rng.normal(-drop, sd, n), -1, 1)).low for _ in range(2000)]
    assert odds.passing == pytest.approx(np.mean(np.array(lows) > -margin), abs=0.03)


def test_power_is_that_of_scipy() -> None:
    """``scipy.stats.power`` simulates the one-sided t test that the interval inverts."""
    rng = np.random.default_rng(4)
    found = stats.power(
        lambda x: stats.ttest_1samp(x, -0.05, alternative="greater", axis=-1).pvalue,
        lambda size: rng.normal(0.0, 0.25, size),
        (150,),
        significance=0.05,
        vectorized=True,
        n_resamples=20_000,
    )
    assert verdict_odds_mean(150, 0.25, 0.05).passing == pytest.approx(float(np.squeeze(found.power)), abs=0.012)


def test_at_a_drop_equal_to_the_margin_wrong_verdicts_are_rare_from_200_items_on() -> None:
    worst = [0.0, 0.0]
    for n in (200, 300, 500, 1000, 1319):
        for margin in (0.015, 0.03, 0.05):
            for discordance in np.linspace(margin, 0.4, 25):
                odds = verdict_odds(n, float(discordance), margin, margin)
                worst = [max(worst[0], odds.passing), max(worst[1], odds.failing)]
    assert 0.05 < worst[0] <= 0.07
    assert 0.05 < worst[1] <= 0.09


def test_ten_equal_items_never_pass_and_178_do() -> None:
    assert verdict_odds(10, 0.0, 0.015) == VerdictOdds(0.0, 1.0, 0.0)
    assert verdict_odds(177, 0.0, 0.015).passing == 0.0
    assert verdict_odds(178, 0.0, 0.015).passing == pytest.approx(1.0)
    assert verdict_odds_mean(178, 0.0, 0.015).passing == 1.0


@pytest.mark.parametrize(("discordance", "drop"), [(0.1, 0.0), (0.05, 0.01), (0.0, 0.0)])
def test_items_to_pass_reach_the_power(discordance: float, drop: float) -> None:
    needed = items_to_pass(discordance, 0.03, drop)
    assert needed is not None
    assert verdict_odds(needed, discordance, 0.03, drop).passing >= 0.8
    assert verdict_odds(int(0.9 * needed), discordance, 0.03, drop).passing < 0.8


def test_nothing_helps_where_the_drop_is_the_margin() -> None:
    assert items_to_pass(0.1, 0.03, 0.03) is None
    assert items_to_pass(1.0, 1e-5) is None
    for odds in (verdict_odds(0, 0.1, 0.03), verdict_odds_mean(1, 0.1, 0.03)):
        assert odds == VerdictOdds(0.0, 1.0, 0.0)
    assert verdict_odds(100, 1.0, 0.03, 1.0).failing == pytest.approx(1.0)
    assert sum(json.loads(json.dumps(verdict_odds(99, 0.2, 0.03).to_json())).values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("discordance", "drop"), [(0.01, 0.02), (1.2, 0.0), (-0.1, 0.0)])
def test_a_drop_is_made_of_discordant_pairs(discordance: float, drop: float) -> None:
    with pytest.raises(ScoreError, match="both are fractions"):
        verdict_odds(100, discordance, 0.03, drop)
    with pytest.raises(ScoreError, match="a standard deviation is at least 0"):
        verdict_odds_mean(100, -0.1, 0.03)
