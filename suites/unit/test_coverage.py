"""The line of a coverage: names joined by their numbers, shares that never round up to all."""

from __future__ import annotations

import pytest

from harness.coverage import Coverage, numbered, share_text

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100"), (0.99999, "99.9"), (0.998, "99.8"), (0.5, "50"), (0.0004, "0"), (0.0, "0")]
)
def test_only_all_is_a_hundred(share: float, text: str) -> None:
    assert share_text(share) == text


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], []),
        (["lm_head", "a.10.x", "a.2.x", "a.3.x"], ["a.2-3,10.x", "lm_head"]),
        (["a.0", "a.1"], ["a.0-1"]),
        (["0.x", "1.x"], ["0-1.x"]),
        (["a.0.e.0.w", "a.0.e.1.w"], ["a.0.e.0.w", "a.0.e.1.w"]),
        (list("abcde"), list("abcde")),
        (list("abcdefg"), [*"abcd", "3 more"]),
    ],
)
def test_names_are_joined_by_their_first_number(names: list[str], shown: list[str]) -> None:
    assert numbered(names) == shown


def test_a_coverage_comes_back() -> None:
    found = Coverage(29, 0.998, {"a.0.attn": "not asked for"}, "0123abcd", False, 203, 0.81)
    assert Coverage.from_json(found.to_json()) == found
    assert found.text == "29 sites, 99.8 % of product FLOPs, left out: a.0.attn [0123abcd]"
