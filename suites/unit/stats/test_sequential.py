"""Early stopping: the e-process, its decision and the alpha it spends."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import ScoreError, e_processes, early_stop, seeded_order
from harness.stats.sequential import STAKES

pytestmark = pytest.mark.unit
differences = st.lists(st.sampled_from([-1.0, -0.4, 0.0, 0.2, 1.0]), max_size=60)


@given(differences, st.floats(0, 0.5))
def test_wealth_is_the_mean_over_stakes_of_a_product(values: list[float], margin: float) -> None:
    within, beyond = e_processes(values, margin)
    assert len(within) == len(beyond) == len(values)
    for found, sign, largest in ((within, 1, 1 / (1 - margin)), (beyond, -1, 1 / (1 + margin))):
        for count in range(1, len(values) + 1):
            factors = [math.prod(1 + stake * largest * sign * (d + margin) for d in values[:count]) for stake in STAKES]
            assert found[count - 1] == pytest.approx(sum(factors) / len(STAKES), rel=1e-9)


def test_at_the_margin_the_expected_wealth_is_1() -> None:
    """Over all sequences of 6 ternary differences whose mean is exactly -margin."""
    shares, values, margin = np.array([0.2, 0.1, 0.7]), np.array([-1.0, 1.0, 0.0]), 0.1
    expected = np.zeros(2)
    for code in np.ndindex(*(3,) * 6):
        weight = float(np.prod(shares[list(code)]))
        expected += weight * np.array([process[-1] for process in e_processes(values[list(code)], margin)])
    assert expected == pytest.approx([1.0, 1.0], abs=1e-9)


def test_clear_cases_stop_early_and_say_so() -> None:
    same = early_stop(np.zeros(1319), 0.03)
    assert same.decision == "within"
    assert same.items < 400
    assert same.e_within >= 1 / same.alpha_spent > same.e_beyond
    lost = early_stop(np.tile([-1.0, 0.0, 0.0, 0.0], 300), 0.03)
    assert lost.decision == "beyond"
    assert lost.items < 100
    assert lost.saved == 1 - lost.items / 1200
    assert f"stopped after {lost.items} of 1200 items: the drop is beyond the margin" in lost.label
    assert "alpha 0.025, the final test 0.025" in lost.label
    assert json.loads(json.dumps(lost.to_json(), allow_nan=False))["alpha_left"] == 0.025


def test_later_items_do_not_change_an_early_stop() -> None:
    first = early_stop(np.zeros(1000), 0.05)
    values = np.zeros(1000)
    values[first.items :] = -1.0
    assert early_stop(values, 0.05).items == first.items


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_alpha_is_split_and_never_exceeded(share: float) -> None:
    found = early_stop([0.0, 0.0, -1.0], 0.03, alpha=0.05, share=share)
    assert found.decision is None
    assert found.items == found.total == 3
    assert found.alpha_spent + found.alpha_left == pytest.approx(0.05)
    assert "no early decision in 3 items" in found.label


def test_no_items_decide_nothing() -> None:
    found = early_stop([], 0.03)
    assert (found.decision, found.items, found.e_within, found.e_beyond, found.saved) == (None, 0, 1.0, 1.0, 0.0)


def test_enormous_wealth_stays_finite() -> None:
    within, _ = e_processes(np.ones(20_000), 0.5)
    assert np.isfinite(within).all()


def test_the_order_depends_on_names_and_seed_only() -> None:
    items = [f"i{index}" for index in range(200)]
    order = seeded_order(items, 1)
    assert order == seeded_order(items[::-1], 1)
    assert sorted(order) == sorted(items)
    assert order != seeded_order(items, 2)
    assert abs(np.corrcoef([items.index(name) for name in order], range(200))[0, 1]) < 0.2
    with pytest.raises(ScoreError, match="given twice"):
        seeded_order(["a", "a"], 0)


@pytest.mark.parametrize(
    ("values", "margin", "share", "words"),
    [
        ([1.5], 0.03, 0.5, "a score lies in"),
        ([math.nan], 0.03, 0.5, "a score is a finite number"),
        ([0.0], 3.0, 0.5, "margin 3.0; it is a fraction"),
        ([0.0], 0.03, 0.0, "share 0.0; the share of alpha"),
    ],
)
def test_bad_sequences_are_refused(values: list[float], margin: float, share: float, words: str) -> None:
    with pytest.raises(ScoreError, match=words):
        early_stop(values, margin, share=share)
