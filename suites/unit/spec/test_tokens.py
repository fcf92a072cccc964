"""Selections of tokens: what words mean, that equal ones are equal, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exceptions import NoiseSpecError
from harness.spec import parse_noise
from harness.spec.tokens import canonical, in_spans, overlap, spans_of

pytestmark = pytest.mark.unit
STEPS = range(-6, 12)
MEANING = {
    "prefill": set(range(-6, 1)),
    "first": {0},
    "decode": set(range(1, 12)),
    "decode:3-": set(range(3, 12)),
    "decode:3-7": {3, 4, 5, 6, 7},
    "decode:3": {3},
    "once": set(range(-6, 1)),
    "once:0": set(range(-6, 1)),
    "once:4": {4},
}
WORDS = st.lists(st.sampled_from(sorted(MEANING)), min_size=1, max_size=4)


@pytest.mark.parametrize("word", MEANING)
def test_a_word_selects_its_steps(word: str) -> None:
    assert {step for step in STEPS if in_spans(step, spans_of([word]))} == MEANING[word]


@given(WORDS)
def test_the_words_that_are_printed_select_the_same(words: list[str]) -> None:
    wanted = set().union(*(MEANING[word] for word in words))
    short = canonical(words)
    assert {step for step in STEPS if not short or in_spans(step, spans_of(short))} == wanted
    assert canonical(short) == short
    spec = parse_noise(f"relative_gaussian @ op:linear tokens:{','.join(words)}")
    assert spec.tokens == short
    assert parse_noise(str(spec)) == spec
    assert {step for low, high in overlap(-3, 5, spans_of(words)) for step in range(low, high + 1)} == {
        step for step in wanted if -3 <= step <= 5
    }


def test_equal_selections_are_equal_measurements() -> None:
    line = "relative_gaussian @ op:linear "
    assert parse_noise(line + "once:3") == parse_noise(line + "tokens:decode:3-3")
    assert parse_noise(line + "once") == parse_noise(line + "tokens:first,prefill")
    assert str(parse_noise(line + "tokens:decode,prefill")) == line.strip()
    assert str(parse_noise(line + "tokens:decode,first")) == line + "tokens:first,decode"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tokens:prefil", "did you mean 'prefill'"),
        ("tokens:first:2", "it has no steps"),
        ("tokens:decode:0-", "counted from 1"),
        ("tokens:decode:7-3", "counted from 1"),
        ("tokens:decode:", "counted from 1"),
        ("tokens:once:x", "one forward of each sequence"),
        ("tokens:first,", "nothing is empty"),
        ("once tokens:first", "given once"),
        ("tokens:first when:both", "belong to no token"),
        ("tokens:first at:weight", "drop tokens: or at:weight"),
    ],
)
def test_what_means_nothing_is_refused(words: str, said: str) -> None:
    with pytest.raises(NoiseSpecError, match=said):
        parse_noise(f"relative_gaussian @ op:linear {words}")
