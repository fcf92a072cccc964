"""What may be asked of sampling, and what a measurement key says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.spec import EvalSpec
from harness.spec.sampling import GREEDY, Sampling, is_sampled, sampling_of

pytestmark = pytest.mark.unit
SPEC = EvalSpec("arith", noise_seeds=3, temperature=0.5, top_p=0.9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": -1.0}, "--temperature -1"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"temperature": float("inf")}, "--temperature inf"),
        ({"temperature": 0.001}, "--temperature 0.001"),
        ({"top_p": 0.0}, "--top-p 0"),
        ({"top_p": 1.5}, "--top-p 1.5"),
        ({"top_p": float("nan")}, "--top-p nan"),
        ({"temperature": 0.0, "top_p": 0.9}, "--top-p 0.9 without --temperature"),
    ],
)
def test_values_out_of_range(change: dict[str, float], words: str, refusal: Callable[..., str]) -> None:
    assert words in refusal(lambda: replace(SPEC, **change))


def test_temperature_0_is_greedy() -> None:
    assert sampling_of(0.0, 1.0) is None
    assert EvalSpec("arith").decoding == GREEDY
    assert not is_sampled({"decoding": GREEDY}) and not is_sampled({})


def test_other_settings_are_other_keys() -> None:
    found = {str(Sampling(t, p)) for t in (0.7, 0.70000001, 1.0) for p in (1.0, 0.95, 0.9500001)}
    assert len(found) == 9
    assert all(is_sampled({"decoding": text}) for text in found)
    assert str(Sampling(1, 1)) == str(Sampling(1.0, 1.0)) == "sampling temperature=1.0 top_p=1.0 keyed-gumbel:1"


def test_every_level_has_the_draws() -> None:
    assert SPEC.seeds_at(0.0) == SPEC.seeds_at(0.05) == (0, 1, 2)
    assert replace(SPEC, temperature=0.0, top_p=1.0).seeds_at(0.0) == (0,)


def test_a_greedy_specification_says_nothing_of_it() -> None:
    """So that those of older runs are the same text."""
    assert not {"temperature", "top_p"} & EvalSpec("arith").to_json().keys()
    assert EvalSpec.from_json(SPEC.to_json()) == SPEC
