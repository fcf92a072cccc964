"""One-line specifications round-trip, and what is wrong in them is named with the way out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exceptions import HarnessError, NoiseSpecError
from harness.spec import EvalSpec, NoiseSpec, RelativeGaussian, check_levels, parse_levels, parse_noise

pytestmark = pytest.mark.unit
BASE_OPS = ("linear", "qk", "pv", "rotary")


@given(
    scale=st.none() | st.floats(0, 10, allow_nan=False).map(lambda x: float(f"{x:g}")),
    ops=st.lists(st.sampled_from(BASE_OPS), min_size=1, unique=True).map(tuple),
    key=st.sampled_from(("item", "shared")),
)
def test_round_trip(scale, ops, key):
    spec = NoiseSpec(RelativeGaussian(scale), ops, key)
    assert parse_noise(str(spec)) == spec
    assert str(NoiseSpec(RelativeGaussian(scale), ops[::-1], key)) == str(spec)


def test_names_stand_for_their_operators():
    assert parse_noise("relative_gaussian").ops == ("linear",)
    assert parse_noise("relative_gaussian @ op:matmul,linear").ops == ("linear", "qk", "pv")
    assert parse_noise("relative_gaussian @ profile:matmul").ops == ("linear", "qk", "pv")
    assert parse_noise("relative_gaussian(0.05) @ op:rotary key:shared") == NoiseSpec(
        RelativeGaussian(0.05), ("rotary",), "shared"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("relative_gausian @ op:linear", "did you mean 'relative_gaussian'"),
        ("relative_gaussian @ op:linaer", "did you mean 'linear'"),
        ("relative_gaussian @ profile:linaer", "did you mean 'linear'"),
        ("relative_gaussian @ ops:linear", "did you mean 'op'"),
        ("relative_gaussian @ op:linear op:qk", "given once"),
        ("relative_gaussian @ op:linear profile:matmul", "given once"),
        ("relative_gaussian @ linear", "name:value"),
        ("relative_gaussian(five) @ op:linear", "a scale is a number"),
        ("relative_gaussian(-1)", "finite fraction"),
        ("relative_gaussian(nan)", "finite fraction"),
        ("relative_gaussian(inf)", "finite fraction"),
        ("relative_gaussian(0.1", "error_model(scale)"),
        ("", "error_model(scale)"),
        ("relative_gaussian @ key:chip", "key:item or key:shared"),
    ],
)
def test_what_is_wrong_is_named(text, words):
    with pytest.raises(NoiseSpecError) as caught:
        parse_noise(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_levels_are_sorted_fractions_with_zero():
    assert parse_levels("0.1,0,0.05") == (0.0, 0.05, 0.1)


@pytest.mark.parametrize("text", ["", "0,a", "0,1", "0,1.5", "-0.1,0", "0,nan", "0,inf", "0.05", "0,0.1,0.1"])
def test_other_levels_are_refused(text):
    with pytest.raises(HarnessError):
        parse_levels(text)


def test_an_evaluation_round_trips():
    spec = EvalSpec("gsm8k", data="x.jsonl", levels=(0, 0.2), noise=parse_noise("relative_gaussian @ profile:matmul"))
    assert EvalSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"items": 0},
        {"noise_seeds": 0},
        {"max_new_tokens": 0},
        {"levels": (0.1,)},
        {"scorer": "strikt"},
        {"attention": "flash"},
        {"dtype": "int8"},
        {"engine": "vlm"},
        {"noise": NoiseSpec(RelativeGaussian(0.1))},
    ],
)
def test_bad_settings_are_refused(changes):
    with pytest.raises(HarnessError):
        EvalSpec("arith", **changes)


def test_noise_seeds_belong_to_noisy_levels():
    spec = EvalSpec("arith", noise_seeds=3)
    assert spec.seeds_at(0.0) == (0,)
    assert spec.seeds_at(0.05) == (0, 1, 2)
    assert check_levels((0.0,)) == (0.0,)
