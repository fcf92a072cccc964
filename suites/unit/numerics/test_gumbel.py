"""Sampled tokens follow softmax, the cut leaves out what it must, and a draw knows nothing but its key."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from harness.numerics.gumbel import (
    LARGEST_GUMBEL,
    answer_streams,
    drawn_tokens,
    gumbels,
    nucleus,
    step_keys,
    token_keys,
)
from harness.numerics.keyed_random import Keys

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")
VOCABULARY = 12
DRAWS = 6000
LOGITS = torch.linspace(-2, 2, VOCABULARY)[torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(3))]


def keys_of(count: int, step: int = 0, item: str = "item") -> Keys:
    return step_keys(answer_streams([item] * count, range(count)), step)


def table(rows: Keys, columns: Keys) -> torch.Tensor:
    """(rows, tokens) draws."""
    return gumbels(rows.view(-1, 1), columns.view(1, -1))


def tokens(temperature: float, top_p: float = 1.0, logits: torch.Tensor = LOGITS, count: int = DRAWS) -> torch.Tensor:
    return drawn_tokens(logits.expand(count, -1), keys_of(count), token_keys(len(logits), CPU), temperature, top_p)


def fits(found: torch.Tensor, probabilities: torch.Tensor) -> float:
    """The p-value of the chi-square test."""
    counts = torch.bincount(found, minlength=len(probabilities)).numpy()
    expected = probabilities.double().numpy() * len(found)
    kept = expected > 0
    assert counts[~kept].sum() == 0
    return float(stats.chisquare(counts[kept], expected[kept] * counts.sum() / expected[kept].sum()).pvalue)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies_are_those_of_softmax(temperature: float) -> None:
    assert fits(tokens(temperature), (LOGITS.double() / temperature).softmax(0)) > 0.01


def test_the_test_tells_other_temperatures_apart() -> None:
    assert fits(tokens(1.0), (LOGITS.double() / 0.9).softmax(0)) < 1e-6


@pytest.mark.parametrize("top_p", [0.5, 0.8, 0.95])
def test_the_cut_leaves_the_smallest_set_that_reaches_top_p(top_p: float) -> None:
    probabilities = LOGITS.double().softmax(0)
    order = probabilities.argsort(descending=True)
    size = next(n for n in range(1, VOCABULARY + 1) if float(probabilities[order[:n]].sum()) >= top_p)
    kept = torch.zeros(VOCABULARY, dtype=torch.float64)
    kept[order[:size]] = probabilities[order[:size]]
    assert nucleus(LOGITS.double()[None], top_p)[0].nonzero()[:, 0].tolist() == sorted(order[:size].tolist())
    assert fits(tokens(1.0, top_p), kept / kept.sum()) > 0.01


def test_the_cut_is_the_one_of_transformers() -> None:
    from transformers import TopPLogitsWarper

    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)) * 2
    for top_p in (0.2, 0.7, 0.99):
        warped = TopPLogitsWarper(top_p)(None, logits)
        assert torch.equal(torch.isfinite(warped), nucleus(logits.double(), top_p))


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_the_cut_is_the_definition_written_out(top_p: float) -> None:
    """Rows with many ties: sorted by probability, then by token id, until the sum reaches top_p."""
    logits = torch.randint(-3, 4, (60, 25), generator=torch.Generator().manual_seed(4)).double()
    kept = nucleus(logits, top_p)
    for row, own in zip(logits.softmax(-1), kept, strict=True):
        order = sorted(range(25), key=lambda token: (-float(row[token]), token))
        size = next(n for n in range(1, 26) if math.fsum(float(row[token]) for token in order[:n]) >= top_p - 1e-12)
        assert own.nonzero()[:, 0].tolist() == sorted(order[:size])


def test_of_equal_probabilities_the_smaller_token_id_stays() -> None:
    assert nucleus(torch.zeros(1, 4, dtype=torch.float64), 0.5).tolist() == [[True, True, False, False]]


def test_the_coldest_is_greedy_and_a_tiny_cut_too() -> None:
    logits = torch.randn(200, 40, generator=torch.Generator().manual_seed(1)) * 20
    columns = token_keys(40, CPU)
    assert torch.equal(drawn_tokens(logits, keys_of(200), columns, 0.01), logits.argmax(-1))
    assert torch.equal(drawn_tokens(logits, keys_of(200), columns, 1.0, 1e-9), logits.argmax(-1))


def test_draws_are_those_of_a_standard_gumbel() -> None:
    found = table(keys_of(200), token_keys(300, CPU)).flatten().numpy()
    assert found.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert found.var() == pytest.approx(math.pi**2 / 6, rel=0.03)
    assert stats.kstest(found, "gumbel_r").pvalue > 0.01
    assert np.isfinite(found).all() and found.max() < LARGEST_GUMBEL


def test_a_draw_does_not_depend_on_the_batch() -> None:
    logits = torch.randn(6, 30, generator=torch.Generator().manual_seed(2))
    items, draws, steps = ["a", "a", "b", "b", "c", "a"], [0, 1, 0, 1, 0, 0], torch.tensor([0, 0, 3, 5, 5, 9])
    keys = step_keys(answer_streams(items, draws), steps)
    together = drawn_tokens(logits, keys, token_keys(30, CPU), 1.0, 0.9).tolist()
    alone = [
        int(
            drawn_tokens(
                logits[n : n + 1],
                step_keys(answer_streams([items[n]], [draws[n]]), int(steps[n])),
                token_keys(30, CPU),
                1.0,
                0.9,
            )
        )
        for n in range(6)
    ]
    assert together == alone


@pytest.mark.parametrize("other", ["item", "draw", "step", "token"])
def test_every_part_of_the_key_matters(other: str) -> None:
    """Two streams that differ in one part alone are uncorrelated."""
    many = 4000
    streams = answer_streams(["one"] * many, range(many))
    first, columns = table(step_keys(streams, 0), token_keys(2, CPU)), token_keys(2, CPU)
    second = {
        "item": lambda: table(step_keys(answer_streams(["two"] * many, range(many)), 0), columns)[:, 0],
        "draw": lambda: table(step_keys(answer_streams(["one"] * many, range(1, many + 1)), 0), columns)[:, 0],
        "step": lambda: table(step_keys(streams, 1), columns)[:, 0],
        "token": lambda: first[:, 1],
    }[other]()
    assert abs(np.corrcoef(first[:, 0].numpy(), second.numpy())[0, 1]) < 4 / math.sqrt(many)


def test_noise_of_the_same_item_and_seed_is_another_stream() -> None:
    from harness.noise.frames import row_bases

    assert int(answer_streams(["item"], [3])[0]) != int(row_bases(["item"], [3], "item")[0])


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_logits_that_are_not_finite_choose_as_greedy_does(bad: float, top_p: float) -> None:
    logits = torch.zeros(1, 8)
    logits[0, 5] = bad
    assert int(drawn_tokens(logits, keys_of(1), token_keys(8, CPU), 1.0, top_p)) == 5
