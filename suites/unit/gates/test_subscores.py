"""Scores of groups: each by its own items, the worst first, and never part of a verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.gates import gate
from harness.gates.policy import GatePolicy
from harness.gates.subscores import LEAST, gated_subscores, groups_of, subscores
from harness.stats import wilson
from harness.testing import make_arm

pytestmark = pytest.mark.unit

POLICY = GatePolicy(margin=0.2, positive_control=False, bootstrap_resamples=0)
BEFORE = make_arm({0.0: [1] * 30, 0.05: [[1, 1]] * 30})
AFTER = make_arm({0.0: [1] * 20 + [0] * 8 + [1] * 2, 0.05: [[1, 1]] * 20 + [[0, 1]] * 10})
GROUPS = {f"i{n:04d}": ("a" if n < 10 else "b" if n < 20 else "c" if n < 27 else f"few{n % 2}") for n in range(30)}


def test_each_group_is_its_own_items_worst_first() -> None:
    found = subscores(replace(AFTER, groups=GROUPS), replace(BEFORE, groups=GROUPS))
    first, *others = (each for each in found.scores if each.level == 0)
    assert (first.group, first.n, [each.group for each in others]) == ("c", 7, ["a", "b"])
    assert first.accuracy.estimate == 0 and first.baseline is not None and first.baseline.estimate == 1
    assert first.difference is not None and first.difference.estimate == -1
    assert first.accuracy == wilson(0, 7)
    (noisy,) = (each for each in found.scores if each.level == 0.05 and each.group == "c")
    assert noisy.difference is not None and noisy.difference.estimate == -0.5
    assert found.smaller == 2 and LEAST == 5


def test_a_run_alone_has_accuracies_only() -> None:
    found = subscores(replace(AFTER, groups=GROUPS))
    assert [each.group for each in found.scores][:3] == ["c", "a", "b"]
    assert all(each.difference is None and each.baseline is None for each in found.scores)


def test_clusters_of_a_task_are_groups_where_it_names_none_and_equal_prompts_are_not() -> None:
    clusters = {"x": "task:t", "y": "prompt:0123", "z": "plain"}
    assert groups_of(replace(AFTER, clusters=clusters)) == {"x": "t", "z": "plain"}
    assert groups_of(replace(AFTER, clusters=clusters, groups=GROUPS)) == GROUPS
    assert subscores(replace(AFTER, clusters={"i0000": "task:t", "i0001": "task:t"})).scores == ()
    assert subscores(AFTER).scores == ()


def test_no_verdict_depends_on_groups() -> None:
    plain = gate(AFTER, BEFORE, POLICY)
    grouped = gate(replace(AFTER, groups=GROUPS), replace(BEFORE, groups=GROUPS), POLICY)
    assert plain.to_json() == grouped.to_json()


def test_nothing_is_compared_that_the_gate_did_not_compare() -> None:
    other = replace(BEFORE, key={"engine": "other"})
    ours = replace(AFTER, groups=GROUPS)
    assert gated_subscores(ours, other, gate(ours, other, POLICY)).scores == ()
    one = replace(POLICY, levels=(0.05,))
    found = gated_subscores(ours, BEFORE, gate(ours, BEFORE, one))
    assert {each.level for each in found.scores} == {0.05}
    assert found.alpha == POLICY.alpha


def test_items_that_one_side_lacks_are_no_pairs() -> None:
    fewer = make_arm({0.0: [1] * 24})
    found = subscores(replace(AFTER, groups=GROUPS), fewer)
    assert {each.group: each.n for each in found.scores} == {"a": 10, "b": 10, "c": 4}
