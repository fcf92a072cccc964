"""Distributions taken where vLLM computes logits: the same in one part or several, fed once or again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from harness.distributions import Keep
from harness.engines.likelihood import distribution_of
from harness.integrations.vllm_plugin.keeping import Keeper, Wanted, merged

pytestmark = pytest.mark.unit

CONTEXT, ANSWER, VOCABULARY = 5, 6, 50
LOGITS = torch.randn(CONTEXT + ANSWER - 1, VOCABULARY, generator=torch.Generator().manual_seed(0))
"""Of every row of a prompt but its last."""

PLACES = (0, 2, 5)
GIVEN = np.array([[7, 1, 9], [3, 0, 49], [1, 2, 3]], dtype=np.int32)


def kept(parts, ids=None):
    """What is kept of a prompt that is fed in ``parts``: (first row, rows)."""
    keeper, wanted = Keeper(), Wanted(CONTEXT, Keep(PLACES, ids, 8))
    told = Wanted.from_json(json.loads(json.dumps(wanted.to_json())))
    for start, count in parts:
        keeper.take(("a", 0, 0.05, None), told, start, LOGITS[start : start + count])
    found = merged([json.loads(json.dumps(keeper.drain()))])
    assert keeper.drain() == []
    return found["a", 0, 0.05, None]


@pytest.mark.parametrize("ids", [None, GIVEN], ids=["most probable", "given"])
@pytest.mark.parametrize("parts", [[(0, 10)], [(0, 4), (4, 3), (7, 3)], [(0, 10), (0, 10)]])
def test_what_is_kept_is_what_the_other_engine_keeps(parts, ids):
    whole = torch.log_softmax(LOGITS[CONTEXT - 1 :], -1)
    wanted, found = distribution_of(whole, Keep(PLACES, ids, 8)), kept(parts, ids)
    for name in ("at", "ids", "best"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    for name in ("logprobs", "rest", "least"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-6)
    found.check()


def test_parts_that_were_never_fed_are_missing():
    assert kept([(0, 7)]).at.tolist() == [0, 2]
