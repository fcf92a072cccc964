"""The same checkpoint must give the same answers; code that differs is said; coverage is part of the key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.coverage import Coverage, coverage_digest
from harness.gates import INVALID, gate
from harness.gates.keys import key_differences
from harness.gates.origin import origin_notes, other_answers
from harness.record import CERTIFIED, RIGHT, Arm, Certificate, Origin, Outcome

pytestmark = pytest.mark.unit

KEY = {"task": "arith", "dtype": "float32"}
N = 200
CODE = ({"harness": "0.1.0", "sources": "aa", "torch": "2.13.0"},)


def arm(changed: int = 0, n: int = N, seeds: int = 1, key: dict[str, str] = KEY, **origin: Any) -> Arm:
    items = [f"i{index}" for index in range(n)]
    right = {item: {seed: Outcome(1.0, RIGHT) for seed in range(seeds)} for item in items}
    answers = {item: dict.fromkeys(range(seeds), "xx" if index < changed else "aa") for index, item in enumerate(items)}
    made = Origin("w", "s", CODE, {0.05: answers})
    return Arm("run", key, {0.05: right}, Certificate(CERTIFIED), origin=replace(made, **origin))


@pytest.mark.parametrize(("changed", "found"), [(0, False), (5, False), (6, True), (N, True)])
def test_near_ties_explain_few_other_answers_and_no_more(changed: int, found: bool) -> None:
    """Of 200 records with a tie in 0.5 % each, 6 or more differ with a probability below 0.001."""
    words = other_answers(arm(changed), arm(), 0.05)
    assert bool(words) is found
    if found:
        assert words[0].startswith(f"the same checkpoint gave other answers: {changed} of 200 records at level 0.05")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"weights": "other"}, {}),
        ({"settings": "other"}, {}),
        ({"weights": ""}, {"weights": ""}),
        ({"key": KEY | {"quantization": "mxfp4"}}, {}),
        ({"answers": {}}, {}),
        ({"key": {"task": "arith", "dtype": "unknown"}}, {"key": {"task": "arith", "dtype": "unknown"}}),
    ],
)
def test_only_the_same_measurement_of_the_same_weights_must_agree(ours: Any, theirs: Any) -> None:
    assert other_answers(arm(N, **ours), arm(**theirs), 0.05) == ()


def test_records_that_one_side_lacks_are_not_compared() -> None:
    assert "60 of 100 records" in other_answers(arm(60, n=100), arm(seeds=3), 0.05)[0]
    assert other_answers(arm(n=100), arm(seeds=3), 0.05) == ()


def test_a_coarse_dtype_has_more_ties() -> None:
    key = KEY | {"dtype": "bfloat16"}
    assert other_answers(arm(100, key=key), arm(key=key), 0.05) == ()
    assert other_answers(arm(140, key=key), arm(key=key), 0.05)


def test_the_gate_is_invalid_by_those_words() -> None:
    found = gate(arm(N), arm())
    assert found.verdict == INVALID and found.exit_code == 4
    assert "the same checkpoint gave other answers" in " ".join(found.reasons)


def test_different_code_is_a_note_of_the_gate() -> None:
    other = arm(code=({"harness": "0.2.0", "sources": "bb", "torch": "2.13.0"},))
    (note,) = origin_notes(other, arm())
    assert note == (
        "baseline and candidate were made by different code: harness (0.1.0 baseline, 0.2.0 candidate),"
        " sources (aa baseline, bb candidate)"
    )
    assert gate(other, arm()).to_json()["notes"] == [note]
    assert origin_notes(arm(), arm()) == origin_notes(arm(code=()), arm()) == ()


def test_notes_of_both_certificates_come_first() -> None:
    noted = replace(arm(), certificate=Certificate(CERTIFIED, notes=("mixed code",)))
    assert origin_notes(noted, noted) == ("candidate: mixed code", "baseline: mixed code")


def coverage(layers: range, left: tuple[str, ...] = ()) -> Coverage:
    sites = [f"model.layers.{layer}.mlp.up" for layer in layers]
    out = dict.fromkeys(left, "exclude:layers.3")
    return Coverage(len(sites), len(sites) / 4, out, coverage_digest(sites, out), bool(left))


def test_another_coverage_is_another_measurement_and_the_words_say_what_is_missing() -> None:
    whole, less = coverage(range(4)).text, coverage(range(3), ("model.layers.3.mlp.up",)).text
    (words,) = key_differences({"coverage": less}, {"coverage": whole})
    assert "3 sites, 75 % of product FLOPs, left out: model.layers.3.mlp.up [" in words
    assert "4 sites, 100 % of product FLOPs, left out: nothing [" in words
    assert "evaluate, or accept, anew" in key_differences({"coverage": less}, {})[0]


def test_other_sites_of_the_same_number_are_another_coverage() -> None:
    assert coverage(range(3)).text != coverage(range(1, 4)).text
