"""Families of hypotheses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.stats import FAMILIES, ScoreError, judge_family

pytestmark = pytest.mark.long
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def named(values: list[float]) -> dict[str, float]:
    return {f"h{index}": p for index, p in enumerate(values)}


@settings(max_examples=4, deadline=None)  # statsmodels collects garbage in every call
@given(p_values, st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_and_benjamini_hochberg_are_those_of_statsmodels(values: list[float], alpha: float) -> None:
    for kind, method in (("holm", "holm"), ("benjamini-hochberg", "fdr_bh")):
        found = judge_family(kind, named(values), alpha)
        rejected, adjusted, *_ = multipletests(values, alpha=alpha, method=method)
        assert list(found.adjusted.values()) == pytest.approx(list(adjusted), abs=1e-8)
        assert list(found.rejected.values()) == list(rejected)
    expected = stats.false_discovery_control(values)
    assert list(judge_family("benjamini-hochberg", named(values)).adjusted.values()) == pytest.approx(
        list(expected), abs=1e-8
    )


def test_all_must_pass_needs_every_one_and_no_correction() -> None:
    both = judge_family("all-must-pass", {"5 %": 0.03, "10 %": 0.049})
    assert all(both.rejected.values())
    assert set(both.adjusted.values()) == {0.049}
    assert not all(judge_family("all-must-pass", {"5 %": 0.0001, "10 %": 0.051}).rejected.values())


def test_a_fixed_sequence_stops_at_the_first_that_stands() -> None:
    found = judge_family("fixed-sequence", {"0": 0.01, "5 %": 0.2, "10 %": 0.001})
    assert list(found.rejected.values()) == [True, False, False]
    assert list(found.adjusted.values()) == [0.01, 0.2, 0.2]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_names_itself(kind: str) -> None:
    found = judge_family(kind, {"a": 0.01, "b": 0.03}, alpha=0.05)
    shown = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert shown["kind"] == kind
    assert shown["family"] == found.label
    assert "2 hypotheses, alpha 0.05" in found.label
    assert shown["hypotheses"]["a"]["p"] == 0.01
    empty = judge_family(kind, {})
    assert empty.rejected == {}


def test_under_no_effect_holm_rejects_anything_as_rarely_as_alpha() -> None:
    """Any rejection means 8 * min(p) <= alpha, which has probability 1 - (1 - alpha / 8)^8 for uniform p."""
    for values in np.random.default_rng(0).random((3, 8)) ** 3:
        found = judge_family("holm", named(list(values)))
        assert min(found.adjusted.values()) == pytest.approx(min(1.0, 8 * values.min()))
        assert any(found.rejected.values()) == (8 * values.min() <= 0.05)


@pytest.mark.parametrize(
    ("kind", "values", "alpha", "words"),
    [
        ("bonferroni", {"a": 0.1}, 0.05, "it is one of all-must-pass, holm"),
        ("holm", {"a": 1.2}, 0.05, "p-value 1.2 of a; a p-value lies in"),
        ("holm", {"a": float("nan")}, 0.05, "p-value nan of a"),
        ("holm", {"a": 0.1}, 0.0, "alpha 0.0; it lies between 0 and 1"),
    ],
)
def test_bad_families_are_refused(kind: str, values: dict[str, float], alpha: float, words: str) -> None:
    with pytest.raises(ScoreError, match=words):
        judge_family(kind, values, alpha)
