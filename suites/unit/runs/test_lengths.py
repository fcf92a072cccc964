"""Answers have the length that the measurement key asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.record import CERTIFIED, INVALID_EVIDENCE, Certificate, ItemResult, LevelCertificate
from harness.runs.lengths import length_problems, with_lengths

pytestmark = pytest.mark.unit


def test_a_cut_answer_has_the_full_count(make_result: Callable[..., ItemResult]) -> None:
    one = make_result("i0", 0.05, 1)
    cut, ended = (replace(one, tokens=(1,) * 8, truncated=truncated) for truncated in (True, False))
    assert length_problems([cut, ended], 8) == ["an answer has 9 tokens, max_new_tokens is 8: item i0, seed 1"]
    assert length_problems([cut, ended], 9) == [
        "an answer was cut off at 8 tokens, max_new_tokens is 9: item i0, seed 1"
    ]
    assert length_problems([cut, cut], 7) == [
        "an answer has 8 tokens, max_new_tokens is 7: item i0, seed 1, and 1 more"
    ]
    assert length_problems([ended], 9) == length_problems([cut], 8) == length_problems([], 8) == []


def test_the_level_of_the_answer_is_invalid(make_result: Callable[..., ItemResult]) -> None:
    levels = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, 0.0, 0.0, 1) for level in (0.0, 0.05))
    certificate = Certificate(CERTIFIED, levels)
    cut = replace(make_result("i0", 0.05, 0), tokens=(1,) * 45, truncated=True)
    assert with_lengths(certificate, [cut], 45) == certificate
    found = with_lengths(certificate, [cut], 96)
    assert found.status == INVALID_EVIDENCE
    assert found.problems_at(0.0) == ()
    assert found.problems_at(0.05) == ("an answer was cut off at 45 tokens, max_new_tokens is 96: item i0, seed 0",)
