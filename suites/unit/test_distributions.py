"""Distributions kept compactly: what is written is read, divergences are those of the whole within their bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, rel_entr

from harness.distributions import Distribution, divergence

pytestmark = pytest.mark.unit


def logits_of(seed, places=5, vocabulary=40, spread=4.0):
    return np.random.default_rng(seed).normal(0, spread, (places, vocabulary))


def kept_of(logits, ids=None, count=6):
    """What an engine keeps of ``logits`` (T, vocabulary)."""
    logprobs = log_softmax(logits, axis=1)
    ids = np.argsort(-logprobs, axis=1)[:, :count] if ids is None else ids
    hidden = logprobs.copy()
    np.put_along_axis(hidden, ids, -np.inf, axis=1)
    return Distribution(
        np.arange(0, 2 * len(ids), 2, dtype=np.int32),
        ids.astype(np.int32),
        np.take_along_axis(logprobs, ids, axis=1).astype(np.float32),
        logsumexp(hidden, axis=1).astype(np.float32),
        logprobs.min(1).astype(np.float32),
        logprobs.argmax(1).astype(np.int32),
    )


def test_what_is_written_is_read():
    found = kept_of(logits_of(0))
    again = Distribution.read(found.written())
    for name in vars(found):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    assert again.places == 5


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), shift=st.floats(0, 3), count=st.integers(1, 40))
def test_the_divergence_is_that_of_the_whole_within_its_bound(seed, shift, count):
    ours = logits_of(seed)
    theirs = ours + shift * np.random.default_rng(seed + 1).normal(size=ours.shape)
    reference = kept_of(ours, count=count)
    found = divergence(reference, kept_of(theirs, reference.ids))
    p, q = (np.exp(log_softmax(logits, axis=1)) for logits in (ours, theirs))
    whole = rel_entr(p, q).sum(1)
    assert (found.kl <= whole + 1e-5).all()
    assert (whole <= found.kl + found.short + 1e-5).all()
    np.testing.assert_array_equal(found.same, ours.argmax(1) == theirs.argmax(1))


def test_a_distribution_lies_nowhere_from_itself():
    found = divergence(kept_of(logits_of(3)), kept_of(logits_of(3)))
    assert (found.kl == 0).all()
    assert found.same.all()


def test_a_vocabulary_that_is_kept_whole_leaves_nothing_out():
    reference = kept_of(logits_of(1, vocabulary=6), count=6)
    found = divergence(reference, kept_of(logits_of(2, vocabulary=6), reference.ids))
    assert np.isneginf(reference.rest).all()
    assert (found.short == 0).all()
    assert (found.kl > 0).all()


def test_a_rest_that_the_candidate_rules_out_is_infinitely_far_away():
    reference = kept_of(logits_of(1))
    candidate = replace(reference, rest=np.full(5, -np.inf, np.float32))
    assert np.isinf(divergence(reference, candidate).kl).all()


def test_other_tokens_are_not_compared():
    with pytest.raises(ValueError, match="keep different tokens"):
        divergence(kept_of(logits_of(1)), kept_of(logits_of(2)))
    found = kept_of(logits_of(1))
    with pytest.raises(ValueError, match="keep different tokens"):
        divergence(found, replace(found, at=found.at + 1))


def test_tokens_that_another_run_kept_bound_nothing():
    """Held by them, a divergence of 14 nats outside of them would be seen as 0 with 7 at most hidden."""
    other, ours, theirs = logits_of(1), logits_of(2), logits_of(3)
    kept = kept_of(other)
    with pytest.raises(ValueError, match="keeps the most probable tokens of another run"):
        divergence(kept_of(ours, kept.ids), kept_of(theirs, kept.ids))
    swapped = kept.ids[:, [1, 0, 2, 3, 4, 5]]
    with pytest.raises(ValueError, match="of another run, not its own"):
        divergence(kept_of(other, swapped), kept_of(theirs, swapped))
    whole = kept_of(other, count=40).ids
    assert (divergence(kept_of(ours, whole), kept_of(theirs, whole)).short == 0).all(), "nothing is left out"


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA"])
def test_a_text_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="no distribution of tokens"):
        Distribution.read(text)


def test_an_edited_one_is_refused():
    found = kept_of(logits_of(4))
    louder, twice = found.logprobs.copy(), found.ids.copy()
    louder[2, 0] += 0.1
    twice[1, 1] = twice[1, 0]
    for changes, words in (
        ({"logprobs": louder}, "are not 1 together"),
        ({"ids": twice}, "holds a token twice"),
        ({"at": found.at[::-1]}, "do not ascend"),
        ({"least": np.full(5, np.nan, np.float32)}, "least probability is above"),
        ({"least": found.logprobs[:, 0]}, "least probability is above"),
    ):
        with pytest.raises(ValueError, match=words):
            Distribution.read(replace(found, **changes).written())
