"""The second implementation of sampling against the first: the same tokens, and what is wrong is far away."""

import math

import numpy as np
import pytest
import torch

from harness.noise.replay.sampled import columns, draws_of, judged_step
from harness.numerics.gumbel import answer_streams, drawn_tokens, gumbels, step_keys, token_keys
from harness.spec.sampling import Sampling

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")
VOCABULARY = 40
SAMPLINGS = [Sampling(0.7), Sampling(1.0, 0.9), Sampling(2.0, 0.5), Sampling(0.01, 0.95), Sampling(50.0)]


def random_logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def draws(step: int, item: str = "item", draw: int = 0) -> np.ndarray:
    return draws_of(item, draw, step, columns(VOCABULARY))


def test_both_draw_the_same_numbers() -> None:
    first = gumbels(step_keys(answer_streams(["item"], [7]), 3), token_keys(VOCABULARY, CPU)).numpy()
    np.testing.assert_allclose(draws(3, draw=7), first, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_both_choose_the_same_tokens(sampling: Sampling) -> None:
    logits = random_logits(60)
    keys = step_keys(answer_streams(["item"] * 60, [0] * 60), torch.arange(60))
    chosen = drawn_tokens(logits, keys, token_keys(VOCABULARY, CPU), sampling.temperature, sampling.top_p).tolist()
    for step, token in enumerate(chosen):
        found = judged_step(logits[step].double().numpy(), draws(step), sampling, [token])
        assert (found.best, found.token, found.gap) == (token, token, 0.0)


@pytest.mark.parametrize("sampling", SAMPLINGS[:3], ids=str)
def test_rounding_of_the_logits_leaves_gaps_of_rounding_only(sampling: Sampling) -> None:
    """Also at the edge of the cut: where other last bits of logits choose another token, the gap is as small."""
    noise, differing = 0.05, 0
    for seed in range(40):
        logits = random_logits(30, seed)
        moved = logits + noise * (torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed)) - 0.5)
        keys = step_keys(answer_streams(["item"] * 30, [seed] * 30), torch.arange(30))
        chosen = drawn_tokens(moved, keys, token_keys(VOCABULARY, CPU), sampling.temperature, sampling.top_p).tolist()
        for step, token in enumerate(chosen):
            found = judged_step(logits[step].double().numpy(), draws(step, draw=seed), sampling, [token])
            assert found.gap <= noise * 1.01
            differing += found.gap > 0
    assert differing > 0, "nothing was near an edge, so nothing was tested"


def test_a_token_outside_the_nucleus_is_far() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    large = np.array([0.0, 0.0, 0.0, 20.0])
    found = judged_step(logits, large, Sampling(1.0, 0.9), [3])
    assert found.best != 3
    assert found.gap > 0.5, "its share of 5 % must grow beyond 10 %"
    assert judged_step(logits, large, Sampling(1.0), [3]).gap == 0.0


def test_a_token_that_was_not_drawn_is_as_far_as_the_scores_are() -> None:
    logits, own = np.zeros(3), np.array([1.0, 3.0, 0.0])
    found = judged_step(logits, own, Sampling(2.0), [0])
    assert found.best == 1
    assert found.gap == pytest.approx(2.0 * 2.0, rel=0.01), "scores are in logits: temperature x Gumbel"


def test_of_several_ends_the_drawn_one_counts() -> None:
    logits, own = np.zeros(4), np.array([1.0, 0.0, 3.0, 2.0])
    assert judged_step(logits, own, Sampling(1.0), [3, 2]) == judged_step(logits, own, Sampling(1.0), [2])
    assert judged_step(logits, own, Sampling(1.0), [0, 3]).token == 3


def test_the_most_probable_token_is_never_cut() -> None:
    logits = np.array([0.0, 9.0, 0.0])
    assert judged_step(logits, np.array([20.0, 0.0, 0.0]), Sampling(1.0, 1e-6), [1]).gap == 0.0
    assert judged_step(logits, np.array([20.0, 0.0, 0.0]), Sampling(1.0, 1e-6), [0]).gap > 5


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_logits_without_a_distribution(bad: float) -> None:
    logits = np.zeros(4)
    logits[2] = bad
    assert judged_step(logits, np.zeros(4), Sampling(1.0, 0.9), [2]).gap == 0.0
    assert judged_step(logits, np.zeros(4), Sampling(1.0, 0.9), [1]).gap == math.inf


def test_impossible_tokens_are_no_obstacle() -> None:
    logits = np.array([0.0, -math.inf, 1.0])
    found = judged_step(logits, np.zeros(3), Sampling(1.0, 0.9), [2])
    assert found.gap == 0.0
    assert judged_step(logits, np.array([0.0, 99.0, 0.0]), Sampling(1.0), [1]).gap == math.inf
