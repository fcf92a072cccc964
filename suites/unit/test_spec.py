"""Specifications print to one line and come back, levels are fractions, and every error is a single line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exceptions import CheckpointError, HarnessError, NoiseSpecError, NotComparableError, StoreError
from harness.spec import (
    EvalSpec,
    NoiseSpec,
    RelativeGaussian,
    check_levels,
    nearest,
    number_text,
    parse_levels,
    parse_noise,
)

pytestmark = pytest.mark.unit

scales = st.none() | st.floats(0, allow_nan=False, allow_infinity=False)
ops = st.lists(st.sampled_from(["linear", "qk", "pv", "rotary", "matmul"]), min_size=1, unique=True).map(tuple)
noises = st.builds(NoiseSpec, st.builds(RelativeGaussian, scales), ops, st.sampled_from(["item", "shared"]))


@given(noises)
def test_a_noise_specification_is_what_it_prints(noise: NoiseSpec) -> None:
    assert parse_noise(str(noise)) == noise
    assert "\n" not in str(noise)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("relative_gaussian", "relative_gaussian @ op:linear"),
        ("relative_gaussian(0.05)@op:matmul", "relative_gaussian(0.05) @ op:qk,pv"),
        ("relative_gaussian @ profile:matmul key:shared", "relative_gaussian @ op:linear,qk,pv key:shared"),
        ("relative_gaussian(5e-2) @ op:qk,linear,qk", "relative_gaussian(0.05) @ op:qk,linear"),
    ],
)
def test_short_forms_are_spelled_out(text: str, printed: str) -> None:
    assert str(parse_noise(text)) == printed


@given(st.floats(allow_nan=False))
def test_a_number_reads_back_exactly(value: float) -> None:
    assert float(number_text(value)) == value


def test_usual_numbers_stay_short() -> None:
    assert [number_text(value) for value in (0.0, 0.05, 0.1, 1 / 3)] == ["0", "0.05", "0.1", repr(1 / 3)]


fractions = st.floats(0, 1, exclude_max=True)


@given(st.lists(fractions, max_size=4, unique=True), noises.map(lambda noise: NoiseSpec(RelativeGaussian(), noise.ops)))
def test_an_evaluation_specification_comes_back_from_json(levels: list[float], noise: NoiseSpec) -> None:
    spec = EvalSpec("arith", "data.jsonl", None, 3, tuple({0.0, *levels}), 2, noise, "strict", 7, "eager", "bfloat16")
    assert EvalSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_levels_are_sorted_and_have_no_negative_zero() -> None:
    assert check_levels((0.1, -0.0, 0.05)) == (0.0, 0.05, 0.1)
    assert math.copysign(1, check_levels((-0.0,))[0]) == 1
    assert parse_levels(" 0, 5e-2 ,.1") == (0.0, 0.05, 0.1)


@pytest.mark.parametrize("levels", [(), (0.05,), (0.0, 1.0), (0.0, -0.1), (0.0, math.nan), (0.0, math.inf), (0.0, 0.0)])
def test_other_levels_are_refused(levels: tuple[float, ...], refusal: Callable[..., str]) -> None:
    assert "noise level" in refusal(check_levels, levels)


def test_a_scale_within_an_evaluation_is_refused(refusal: Callable[..., str]) -> None:
    noise = parse_noise("relative_gaussian(0.05) @ op:linear")
    text = refusal(lambda: EvalSpec("arith", noise=noise), kind=NoiseSpecError)
    assert "write relative_gaussian @ op:linear or drop --noise-levels" in text


def test_the_clean_level_has_one_seed() -> None:
    spec = EvalSpec("arith", noise_seeds=3)
    assert (spec.seeds_at(0.0), spec.seeds_at(0.05)) == ((0,), (0, 1, 2))


def test_the_nearest_word_or_all_of_them() -> None:
    assert nearest("liner", ("linear", "qk")) == "did you mean 'linear'?"
    assert nearest("zzz", ("linear", "qk")) == "known: linear, qk"


@pytest.mark.parametrize(
    ("kind", "code"),
    [(HarnessError, 2), (NoiseSpecError, 2), (CheckpointError, 2), (StoreError, 2), (NotComparableError, 4)],
)
def test_an_error_is_one_line_with_its_exit_code(kind: type[HarnessError], code: int) -> None:
    error = kind("a\nvalue", "the\r\n rule", "way\tout")
    assert str(error) == "a value; the rule; way out"
    assert (str(kind("only")), str(kind("a", "", "c"))) == ("only", "a; c")
    assert error.exit_code == code
