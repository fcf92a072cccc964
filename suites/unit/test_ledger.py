"""Counts added up, kept as JSON, and required to prove something."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.exceptions import EvidenceError, HarnessError
from harness.ledger import from_json, merge, require, to_json
from harness.record import SiteCount

pytestmark = pytest.mark.unit
ONE = SiteCount("up", "linear", 0.05, 0, process="a:1", calls=2, rows=6, elements=60, changed=59, nonzero=60)
OTHER = replace(ONE, site="down", layer=1, calls=3, changed=60)
ELSEWHERE = replace(ONE, process="b:2")


def test_counts_of_one_identity_add_up_and_processes_stay_apart() -> None:
    assert merge([ONE, OTHER, ONE]) == (ONE + ONE, OTHER)
    assert merge([ONE, ELSEWHERE]) == (ONE, ELSEWHERE)
    (together,) = merge([ONE, ELSEWHERE], across_processes=True)
    assert (together.calls, together.process) == (4, "")


def test_counts_survive_json_and_nothing_else_is_read() -> None:
    assert from_json(to_json([ONE, OTHER])) == (ONE, OTHER)
    with pytest.raises(HarnessError, match="each entry has the fields of a site count"):
        from_json([{"site": "up", "oop": "linear"}])


def test_what_is_required_is_chosen_and_counted() -> None:
    counts = (ONE, OTHER)
    assert require(counts, sites=2, calls=5, elements=120) == counts
    assert require(counts, layer=1) == (OTHER,)
    assert require((replace(ONE, changed=0),), effective=False)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"calls": 6}, "ledger of all sites: 5 calls; 6 were required"),
        ({"op": "matmul"}, "ledger of op matmul: nothing was counted"),
        ({"site": "up", "sites": 2}, "ledger of site up: 1 sites; 2 were required"),
        ({"effective": False}, "changed some; a clean control changes none"),
    ],
)
def test_what_is_not_proven_raises(asked: dict[str, object], words: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        require((ONE, OTHER), **asked)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_a_site_that_changed_nothing_is_named() -> None:
    with pytest.raises(EvidenceError, match="down changed none; every one must change elements"):
        require((ONE, replace(OTHER, changed=0)))
