"""Perplexity of documents: ratios of sums, intervals over documents, and no gate that reads them as accuracies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.gates.perplexity import check_rules, nats_apart, perplexity_of, refuse_continuous
from harness.gates.policy import GatePolicy
from harness.likelihoods import Scored, written
from harness.record import MEASURED, UNPARSED, LikelihoodResult
from harness.scorers import Asked, judged, load_scorer
from harness.scorers.perplexity import lengths_of
from harness.stats.bootstrap import ratio_bootstrap

pytestmark = pytest.mark.unit


def record(item: str, nats: float | None, tokens: int = 10, seed: int = 0, level: float = 0.0) -> LikelihoodResult:
    text = written([Scored(1, tokens, nats, False)])
    found = judged(load_scorer("perplexity"), text, lengths_of("two words"), Asked(item, ""), False)
    answer = *(found.score, found.reason, found.answer, found.scores), 1
    return LikelihoodResult(item, level, seed, *answer, tuple(range(tokens)), text, False)


def test_a_record_is_measured_and_neither_right_nor_wrong() -> None:
    found = record("a", -12.0)
    assert (found.score, found.reason) == (None, MEASURED)
    assert found.scores == {"nats": -12.0, "tokens": 10.0, "words": 2.0, "bytes": 9.0}
    assert record("a", None).reason == UNPARSED


def test_the_perplexities_are_those_of_lm_eval() -> None:
    """``weighted_perplexity`` and ``bits_per_byte``: exp of minus log-likelihoods by lengths."""
    results = [record("a", -12.0), record("b", -30.0, 12), record("c", -9.0, 5)]
    found = perplexity_of(results, {})
    assert found.by["words"].estimate == pytest.approx(math.exp(51 / 6))
    assert found.by["bytes"].estimate == pytest.approx(math.exp(51 / 27))
    assert found.by["tokens"].estimate == pytest.approx(math.exp(51 / 27))
    assert found.nats.estimate == pytest.approx(51 / 27) and (found.documents, found.broken) == (3, 0)
    assert found.nats.low < found.nats.estimate < found.nats.high


def test_seeds_of_a_document_are_one_entry_and_what_is_not_finite_is_counted() -> None:
    results = [record("a", -12.0), record("a", -14.0, seed=1), record("b", -30.0), record("c", None)]
    found = perplexity_of(results, {})
    assert (found.documents, found.broken) == (2, 1)
    assert found.nats.estimate == pytest.approx((13 + 30) / 20)


def test_a_difference_is_paired_and_far_narrower_than_either() -> None:
    rng = np.random.default_rng(5)
    clean = [record(str(n), -10 * float(rng.uniform(1, 6))) for n in range(40)]
    noisy = [record(each.item, (each.scores["nats"] or 0.0) - 2 - 0.1 * float(rng.normal())) for each in clean]
    count, lost = nats_apart(noisy, clean, {})
    assert count == 40 and 0.19 < lost.low < lost.estimate < lost.high < 0.21
    whole = perplexity_of(clean, {}).nats
    assert whole.high - whole.low > 20 * (lost.high - lost.low)


def test_clusters_move_together() -> None:
    results = [record(f"{group}{n}", -10.0 * (group + 1)) for group in range(4) for n in range(9)]
    alone = perplexity_of(results, {}).nats
    together = perplexity_of(results, {each.item: each.item[0] for each in results}).nats
    assert together.estimate == pytest.approx(alone.estimate)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_ratio_covers_what_it_should() -> None:
    """One-sided bounds at 5 %: of 300 samples of 30 clusters the true ratio lies above the upper one in about 15."""
    rng = np.random.default_rng(11)
    missed = np.zeros(2)
    for sample in range(300):
        sizes = rng.integers(5, 60, 30)
        sums = sizes * 2.0 + np.sqrt(sizes) * rng.normal(0, 3, 30)
        found = ratio_bootstrap(sums, sizes, 0.05, sample, 500)
        missed += [found.low > 2.0, found.high < 2.0]
    assert (missed < 34).all() and (missed > 3).all(), missed


@pytest.mark.parametrize(("sums", "sizes"), [([1.0, math.nan], [1, 1]), ([1.0, 2.0], [1, 0]), ([1.0], [1, 2])])
def test_what_is_no_ratio_is_refused(sums: list[float], sizes: list[float]) -> None:
    with pytest.raises(ValueError, match="one finite pair a cluster"):
        ratio_bootstrap(sums, sizes)


def test_a_margin_in_nats_that_nothing_reads_is_refused(refusal: Callable[..., Any]) -> None:
    for policy in (GatePolicy(nats_margin=0.05), GatePolicy(nats_margins=((0.0, 0.05),))):
        assert "nats_margin 0.05" in refusal(check_rules, policy, [{"scorer": "pair"}])
        check_rules(policy, [{"scorer": "pair"}, {"scorer": "perplexity"}])


def test_what_compares_accuracies_refuses_it(refusal: Callable[..., Any]) -> None:
    refuse_continuous({"scorer": "pair"}, "run x")
    assert "--against" in refusal(refuse_continuous, {"scorer": "perplexity"}, "run x")
