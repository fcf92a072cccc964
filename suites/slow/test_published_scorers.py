"""The restated rules of published scorers against the packages that publish them."""

from __future__ import annotations

import pytest

from suites.unit.scorers.test_published_rules import TABLE, verl_flexible, verl_math, verl_strict

pytestmark = pytest.mark.slow


def test_verl_scores_as_restated() -> None:
    gsm8k = pytest.importorskip("verl.utils.reward_score.gsm8k")
    math_reward = pytest.importorskip("verl.utils.reward_score.math_reward")
    for text, gold, _, _ in TABLE:
        for method, rule in (("strict", verl_strict), ("flexible", verl_flexible)):
            assert (gsm8k.compute_score(text, gold, method=method) == 1.0) == (rule(text, gold) == "right"), text
            assert (gsm8k.extract_solution(text, method) is None) == (rule(text, gold) == "-"), text
        assert (math_reward.compute_score(text, gold) == 1.0) == (verl_math(text, gold) == "right"), text
