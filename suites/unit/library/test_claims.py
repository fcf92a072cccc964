"""The calls behind ``harness claims``."""

from __future__ import annotations

import json

import pytest

from harness.exceptions import HarnessError
from harness.library.claims import judge_claims, judge_published_theory

pytestmark = pytest.mark.unit


def test_the_published_theory_is_undecided_by_single_runs() -> None:
    found = judge_published_theory()
    json.dumps(found, allow_nan=False)
    assert found["outcome"] == "undecided" and set(found["arms"]) == {"E8a", "E8b", "E8c", "E8d"}


def test_a_claim_or_verdict_that_there_is_none_of() -> None:
    with pytest.raises(HarnessError, match=r"--verdict flase; it is one of .*; did you mean 'false'\?"):
        judge_claims(verdict="flase")
    with pytest.raises(HarnessError, match="--id zz; the registry has no such claim"):
        judge_claims(name="zz")
