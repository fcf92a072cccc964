"""How far two sides are apart: tensors in, figures out."""

from __future__ import annotations

import math

import pytest
import torch

from harness.training.verl_plugin.apart import Apart, apart

pytestmark = pytest.mark.unit


def test_k3_and_the_largest_difference_count_answer_tokens_alone():
    rollout = torch.tensor([[-1.0, -2.0, -9.0], [-0.5, -9.0, -9.0]])
    actor = torch.tensor([[-1.5, -2.0, -1.0], [-0.25, 0.0, 0.0]])
    found = apart(rollout, actor, torch.tensor([[1, 1, 0], [1, 0, 0]]))
    k3 = [math.exp(d) - 1 - d for d in (-0.5, 0.0, 0.25)]
    assert found.tokens == 3 and found.largest == 0.5
    assert found.k3_sum == pytest.approx(sum(k3), rel=1e-12)
    assert found.metrics("a/") == {"a/k3_kl": pytest.approx(sum(k3) / 3), "a/dlogp_max": 0.5}


def test_a_difference_at_the_floor_of_float32_is_not_lost_in_the_rounding_of_the_exponential():
    rollout = torch.full((1, 1000), -1.0)
    found = apart(rollout, rollout + 1e-5, torch.ones(1, 1000))
    assert found.metrics("")["k3_kl"] == pytest.approx(5e-11, rel=0.05)


def test_parts_add_up_and_no_tokens_give_no_figure():
    first, second = Apart(2, 1.0, 0.1), Apart(3, 0.5, 0.7)
    assert first.plus(second) == Apart(5, 1.5, 0.7)
    assert apart(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, 2)).metrics("x") == {}
