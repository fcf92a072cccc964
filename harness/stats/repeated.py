"""Several sampled answers to one item: the chance that one of k is right, that all k are, that their majority is.

Each is a number per item, in [0, 1], without bias for k draws of the n there are; the intervals over items are those of
any other score (:func:`harness.stats.score_mean`, :func:`harness.stats.paired_mean`), so that the draws of an item
never count as items.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from harness.stats.checks import FRACTIONS, Floats, ScoreError, matrix


def sizes(draws: int) -> tuple[int, ...]:
    """Return the numbers k that are reported for ``draws`` answers to an item: 1, 2, 4, ... and all of them."""
    powers = [2**power for power in range(draws.bit_length()) if 2**power < draws]
    return (*powers, draws) if draws else ()


def _checked(right: ArrayLike, k: int) -> tuple[Floats, int]:
    """The right answers of every item, and the draws."""
    scores = matrix(right, "right answers", FRACTIONS)
    draws = scores.shape[1]
    if not np.isin(scores, (0.0, 1.0)).all():
        raise ScoreError(
            f"a score of {float(scores[~np.isin(scores, (0.0, 1.0))][0])!r}",
            "pass@k counts answers that are right or wrong",
            "use a scorer of 0 and 1, or the mean",
        )
    if not 1 <= k <= draws:
        raise ScoreError(
            f"k = {k} of {draws} draws", "k draws are taken from those that an item has", f"give 1 to {draws}"
        )
    counts: Floats = scores.sum(axis=1)
    return counts, draws


def pass_at_k(right: ArrayLike, k: int) -> Floats:
    """Return, for every item, the probability that of ``k`` draws at least one is right (fraction), shape (items,).

    ``right`` (items, draws) holds 0 and 1. Without bias: 1 - C(n - c, k) / C(n, k) for c right ones of n. Raises
    :class:`ScoreError` for other scores and for k outside 1 to n. Source: Chen et al. (2021), Evaluating Large
    Language Models Trained on Code, arXiv 2107.03374, equation 1.
    """
    counts, draws = _checked(right, k)
    table = [1 - math.comb(draws - c, k) / math.comb(draws, k) for c in range(draws + 1)]
    found: Floats = np.array(table, dtype=np.float64)[counts.astype(int)]
    return found


def pass_all_k(right: ArrayLike, k: int) -> Floats:
    """Return, for every item, the probability that all of ``k`` draws are right (pass^k, fraction), shape (items,).

    As :func:`pass_at_k`, with C(c, k) / C(n, k). Source: Yao et al. (2024), tau-bench, arXiv 2406.12045, section 3.
    """
    counts, draws = _checked(right, k)
    table = [math.comb(c, k) / math.comb(draws, k) for c in range(draws + 1)]
    found: Floats = np.array(table, dtype=np.float64)[counts.astype(int)]
    return found


def majority_at_k(right: ArrayLike, answers: Sequence[Sequence[Hashable | None]], k: int) -> Floats:
    """Return, for every item, the probability that the most frequent answer of ``k`` draws is right, shape (items,).

    ``answers`` (items, draws) are compared for equality, right ones count as one answer, and None (no answer was
    found) abstains. Where several answers are the most frequent, one of them is taken at random: a right one counts as
    its share. Exact over all C(n, k) choices of k draws. Raises :class:`ScoreError` as :func:`pass_at_k`, and for
    answers of another shape. Source: Wang et al. (2022), Self-Consistency Improves Chain of Thought Reasoning, arXiv
    2203.11171.
    """
    _, draws = _checked(right, k)
    scores = matrix(right, "right answers", FRACTIONS)
    if len(answers) != len(scores) or any(len(own) != draws for own in answers):
        raise ScoreError(
            f"answers to {len(answers)} items beside scores of {len(scores)} items x {draws} draws",
            "every score has its answer",
            "give one answer for each draw",
        )
    return np.array(
        [_majority(*_votes(row, own), k) for row, own in zip(scores, answers, strict=True)], dtype=np.float64
    )


def _votes(scores: Floats, answers: Sequence[Hashable | None]) -> tuple[int, tuple[int, ...], int]:
    """How many draws are right, have each of the wrong answers (ascending), and have none."""
    wrong = [answer for answer, score in zip(answers, scores, strict=True) if score != 1.0]
    found = Counter(answer for answer in wrong if answer is not None)
    return int(scores.sum()), tuple(sorted(found.values())), sum(answer is None for answer in wrong)


@functools.lru_cache(maxsize=4096)
def _majority(right: int, wrong: tuple[int, ...], silent: int, k: int) -> float:
    """The share of all choices of ``k`` draws whose majority is right, ties by their share: counts by number of votes
    for the right answer, then wrong answer by wrong answer."""
    total = math.comb(right + sum(wrong) + silent, k)
    won = 0.0
    for votes in range(1, min(right, k) + 1):
        # (draws taken, wrong answers with as many votes) -> choices, as exact integers
        ways = {(votes, 0): math.comb(right, votes)}
        for count in wrong:
            ways = _with_answer(ways, count, votes, k)
        for (taken, tied), number in ways.items():
            won += number * math.comb(silent, k - taken) / total / (1 + tied)
    return won


def _with_answer(ways: dict[tuple[int, int], int], count: int, votes: int, k: int) -> dict[tuple[int, int], int]:
    """``ways`` with 0 to ``votes`` draws of an answer that ``count`` draws have."""
    found: dict[tuple[int, int], int] = {}
    for (taken, tied), number in ways.items():
        for more in range(min(count, votes, k - taken) + 1):
            place = taken + more, tied + (more == votes)
            found[place] = found.get(place, 0) + number * math.comb(count, more)
    return found
