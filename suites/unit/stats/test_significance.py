"""McNemar and Welch tests: agreement with public functions, attainable p, degenerate data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.weightstats import CompareMeans

from harness.stats import ScoreError, mcnemar_exact, mcnemar_mid_p, welch_t

pytestmark = pytest.mark.unit
few = st.integers(0, 30)


@given(few, few, st.integers(0, 50))
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(lost: int, gained: int, rest: int) -> None:
    n = lost + gained + rest
    found = mcnemar_exact(lost, gained, n)
    if lost + gained == 0:
        assert (found.p_value, found.attainable) == (1.0, 1.0)
        return
    table = [[0, lost], [gained, 0]]
    assert found.p_value == pytest.approx(min(1.0, mcnemar(table, exact=True).pvalue), abs=1e-8)
    assert found.p_value == pytest.approx(stats.binomtest(gained, lost + gained).pvalue, abs=1e-8)
    assert found.attainable is not None
    assert found.attainable <= found.p_value + 1e-12
    one_sided = [mcnemar_exact(lost, gained, n, side).p_value for side in ("less", "greater")]
    assert found.p_value == pytest.approx(min(1.0, 2 * min(p for p in one_sided if p is not None)))


def test_the_attainable_p_is_reached_where_all_pairs_are_lost() -> None:
    found = mcnemar_exact(7, 0, 100, "less")
    assert found.p_value == found.attainable == 0.5**7
    assert found.estimate == pytest.approx(-0.07)


@pytest.mark.parametrize("table", [(3, 3, 5), (-1, 0, 5), (0.5, 1, 5)])
def test_mcnemar_refuses_counts_that_do_not_fit(table: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError):
        mcnemar_exact(*table)  # type: ignore[arg-type]


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_the_t_test_is_that_of_statsmodels(alternative: str) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(0, 1, 30), rng.normal(0.3, 2, 30)
    welch = welch_t(first, second[:20], alternative)
    side = {"less": "smaller", "greater": "larger"}.get(alternative, alternative)
    reference = CompareMeans.from_data(first, second[:20]).ttest_ind(alternative=side, usevar="unequal")
    assert (welch.statistic, welch.p_value) == pytest.approx(reference[:2], abs=1e-8)
    assert welch.estimate == pytest.approx(first.mean() - second[:20].mean())


@pytest.mark.parametrize("values", [[], [0.4], [0.2, 0.2, 0.2]])
def test_without_spread_there_is_no_t_test(values: list[float]) -> None:
    found = welch_t(values, values)
    assert found.p_value is None and found.statistic is None
    text = json.dumps(found.to_json(), allow_nan=False)
    assert ("null" in text) and (math.isnan(found.estimate) == (not values))


def test_an_unknown_alternative_is_refused() -> None:
    for call in (lambda: welch_t([1, 2], [1, 3], "smaller"), lambda: mcnemar_exact(1, 2, 3, "smaller")):
        with pytest.raises(ScoreError, match="it is one of two-sided, less, greater"):
            call()


@pytest.mark.parametrize(("lost", "gained"), [(7, 2), (3, 3), (0, 6), (12, 20)])
def test_mid_p_counts_the_observed_table_half(lost: int, gained: int) -> None:
    discordant = lost + gained
    pmf = stats.binom.pmf(np.arange(discordant + 1), discordant, 0.5)
    less = pmf[:gained].sum() + pmf[gained] / 2
    assert mcnemar_mid_p(lost, gained, 100, "less").p_value == pytest.approx(less)
    assert mcnemar_mid_p(lost, gained, 100).p_value == pytest.approx(min(1.0, 2 * min(less, 1 - less)))
    assert mcnemar_mid_p(0, 0, 10).p_value == 1.0


def test_mid_p_comes_closer_to_its_level_than_the_exact_test() -> None:
    """Exactly, over 10 to 60 discordant pairs without any drift."""
    rates = []
    for test in (mcnemar_exact, mcnemar_mid_p):
        found = []
        for pairs in range(10, 61):
            pmf = stats.binom.pmf(np.arange(pairs + 1), pairs, 0.5)
            wrong = [pmf[k] for k in range(pairs + 1) if (test(pairs - k, k, 400).p_value or 0.0) <= 0.05]
            found.append(sum(wrong))
        rates.append(float(np.mean(found)))
    assert rates[0] < 0.04 < rates[1] < 0.055
