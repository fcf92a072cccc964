"""Levels follow the error model, an evaluation takes forward noise only, and ``--noise`` names either form."""

import pytest

from harness.evaluate.prepared import attention_for
from harness.exceptions import HarnessError, NoiseSpecError
from harness.spec import (
    ERROR_MODELS,
    EvalSpec,
    FakeQuant,
    NoiseSpec,
    RelativeGaussian,
    check_levels,
    default_levels,
    dump_noises,
    parse_levels,
    parse_noise,
)
from harness.spec.errors import AbsoluteGaussian, AbsoluteSaturation, Deadzone, Spike
from harness.spec.reading import read_noise

pytestmark = pytest.mark.unit
FRACTIONS = [model() for model in ERROR_MODELS.values() if model.strength and model.unit == "fraction"]
VALUES = [model() for model in ERROR_MODELS.values() if model.strength and model.unit == "value"]
SWITCHES = [model() for model in ERROR_MODELS.values() if model.strength is None]
BAD_FRACTIONS = ["", "0,a", "0,1", "0,1.5", "-0.1,0", "0,nan", "0,inf", "0.05", "0,0.1,0.1", "0,-0.0"]
BAD_VALUES = ["", "0,a", "-0.1,0", "0,nan", "0,inf", "2", "0,3,3"]
BAD_SWITCHES = ["", "0", "1", "0,0.5", "0,0.5,1", "0,1,1", "0,2", "-1,0", "0,nan", "0,1,nan"]


def test_there_is_a_model_of_each_kind():
    assert len(FRACTIONS) + len(VALUES) + len(SWITCHES) == len(ERROR_MODELS)
    assert FRACTIONS and VALUES and SWITCHES


@pytest.mark.parametrize("error", [None, *FRACTIONS], ids=str)
def test_levels_are_sorted_fractions_with_zero(error):
    assert parse_levels("0.1,0,0.05", error) == check_levels((0.1, 0, 0.05), error) == (0.0, 0.05, 0.1)
    assert check_levels((-0.0,), error) == (0.0,)
    for text in BAD_FRACTIONS:
        with pytest.raises(HarnessError):
            parse_levels(text, error)


@pytest.mark.parametrize("error", VALUES, ids=str)
def test_levels_in_the_unit_of_the_value_may_be_large(error):
    assert parse_levels("7.5,0,1", error) == (0.0, 1.0, 7.5)
    for text in BAD_VALUES:
        with pytest.raises(HarnessError):
            parse_levels(text, error)
    with pytest.raises(HarnessError, match=f"a level of {error.name} is a finite number >= 0"):
        parse_levels("0,-1", error)


@pytest.mark.parametrize("error", SWITCHES, ids=str)
def test_models_without_a_strength_are_off_and_on(error):
    assert parse_levels("1,0", error) == default_levels(error) == (0.0, 1.0)
    for text in BAD_SWITCHES:
        with pytest.raises(HarnessError):
            parse_levels(text, error)
    with pytest.raises(HarnessError, match=f"{error.name} has no strength, it is off or on; give the levels 0,1"):
        parse_levels("0,0.05", error)


def test_default_levels_are_valid():
    for model in ERROR_MODELS.values():
        assert check_levels(default_levels(model()), model()) == default_levels(model())
    assert EvalSpec("arith").levels == default_levels(RelativeGaussian()) == (0.0, 0.05, 0.1)


@pytest.mark.parametrize(
    "spec",
    [
        EvalSpec("gsm8k", data="x.jsonl", levels=(0, 0.2), noise=parse_noise("relative_gaussian @ profile:matmul")),
        EvalSpec("arith", levels=(0, 1), noise=NoiseSpec(FakeQuant("bf16"), scope="mlp", layers=((1, 2),))),
        EvalSpec("arith", levels=(0, 3), noise=NoiseSpec(AbsoluteGaussian(), exclude=("lm_head",))),
    ],
    ids=str,
)
def test_an_evaluation_round_trips(spec):
    import json

    assert EvalSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"items": 0}, "--items 0"),
        ({"noise_seeds": 0}, "--noise-seeds 0"),
        ({"max_new_tokens": 0}, "--max-new-tokens 0"),
        ({"levels": (0.1,)}, "level 0 is the clean reference"),
        ({"levels": ()}, "level 0 is the clean reference"),
        ({"levels": (0, 1)}, "a level is a fraction in [0, 1)"),
        ({"scorer": "strikt"}, "did you mean 'strict'"),
        ({"attention": "flash"}, "--attention flash"),
        ({"dtype": "int8"}, "--dtype int8"),
        ({"engine": "vlm"}, "--engine vlm"),
        ({"noise": NoiseSpec(RelativeGaussian(0.1))}, "the scale may come from one place only; write relative_g"),
        ({"noise": NoiseSpec(Spike(0.1))}, "the rate may come from one place only; write spike @ op:linear or"),
        ({"noise": NoiseSpec(when="backward")}, "when:backward in an evaluation; an evaluation has no backward pass"),
        ({"noise": NoiseSpec(when="both")}, "when:both in an evaluation"),
        ({"noise": NoiseSpec(phases=("rollout",))}, "phase:rollout in an evaluation; an evaluation has no phases"),
        ({"noise": NoiseSpec(FakeQuant())}, "fake_quant has no strength, it is off or on"),
        ({"noise": NoiseSpec(AbsoluteSaturation(6)), "levels": (0, 0.5)}, "absolute_saturation has no strength"),
    ],
)
def test_bad_settings_are_refused(changes, words):
    with pytest.raises(HarnessError) as caught:
        EvalSpec("arith", **changes)
    assert words in str(caught.value)


def test_noise_seeds_belong_to_noisy_levels():
    spec = EvalSpec("arith", noise_seeds=3)
    assert spec.seeds_at(0.0) == (0,)
    assert spec.seeds_at(0.05) == (0, 1, 2)


@pytest.mark.parametrize(
    ("place", "attention"),
    [
        ("op:linear", "sdpa"),
        ("op:softmax", "eager"),
        ("op:gelu", "sdpa"),
        ("op:qk", "eager"),
        ("op:matmul", "eager"),
        ("profile:matmul", "eager"),
        ("class:Linear", "sdpa"),
    ],
)
def test_noise_on_attentions_products_asks_for_eager_attention(place, attention):
    assert attention_for(EvalSpec("arith", noise=parse_noise(f"relative_gaussian @ {place}"))) == attention


@pytest.mark.parametrize(
    ("text", "levels", "noise", "found"),
    [
        ("relative_gaussian", None, NoiseSpec(), (0.0, 0.05, 0.1)),
        ("relative_gaussian", "0,0.2", NoiseSpec(), (0.0, 0.2)),
        ("relative_gaussian(0.3)", None, NoiseSpec(), (0.0, 0.3)),
        ("spike(0.001, 3)", None, NoiseSpec(Spike(None, 3)), (0.0, 0.001)),
        ("absolute_gaussian(4)", None, NoiseSpec(AbsoluteGaussian()), (0.0, 4.0)),
        ("absolute_gaussian", "0,4", NoiseSpec(AbsoluteGaussian()), (0.0, 4.0)),
        ("fake_quant(bf16)", None, NoiseSpec(FakeQuant("bf16")), (0.0, 1.0)),
        ("absolute_saturation", "0,1", NoiseSpec(AbsoluteSaturation()), (0.0, 1.0)),
    ],
)
def test_noise_and_levels_of_the_command_line(tmp_path, text, levels, noise, found):
    path = tmp_path / "mine.toml"
    path.write_text(dump_noises([parse_noise(text)]))
    assert read_noise(text, levels) == read_noise(str(path), levels) == (noise, found)
    assert EvalSpec("arith", noise=noise, levels=found).levels == found


@pytest.mark.parametrize(
    ("text", "levels", "words"),
    [
        ("spike(0.1)", "0,0.1", "has a rate and --noise-levels 0,0.1 gives others; the rate may come from one place"),
        ("spike(0)", None, "rate 0 changes nothing; give a rate above 0"),
        ("spike(1)", None, "noise level 1; a level is a fraction in [0, 1)"),
        ("fake_quant", "0,0.05", "fake_quant has no strength"),
        ("none.toml", None, "noise file none.toml; it cannot be read"),
    ],
)
def test_contradictions_of_the_command_line(monkeypatch, tmp_path, text, levels, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessError) as caught:
        read_noise(text, levels)
    assert words in str(caught.value)


def test_an_evaluation_runs_one_specification(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(dump_noises([NoiseSpec(), NoiseSpec(Deadzone())]))
    with pytest.raises(HarnessError, match="holds 2 noise tables; an evaluation runs one"):
        read_noise(str(path), None)
    path.write_text('[[noise]]\nerror = "spkie"')
    with pytest.raises(NoiseSpecError, match="table 1: unknown error model 'spkie'"):
        read_noise(str(path), None)
