"""What an error model, a place and a pattern may be, and the words with which the rest is refused."""

import dataclasses
import math

import pytest
import torch

from harness.exceptions import NoiseSpecError
from harness.spec import ERROR_MODELS, OPS, PROFILES, SCOPES, FakeQuant, NoiseSpec, RelativeGaussian, make_error
from harness.spec.errors import BitFlip, Nondeterministic, Spike, StuckAt
from harness.spec.operators import selected
from harness.spec.selectors import LISTS, PLACES, SELECTORS

pytestmark = pytest.mark.unit
NO_NUMBERS = (math.nan, math.inf, -math.inf, "0.1", True, 10**400, (0.1,))
NUMBERS = {
    ("relative_gaussian", "scale"): ((0, 0.05, 3), (-0.1,)),
    ("nondeterministic", "scale"): ((0, 0.05, 3), (-0.1,)),
    ("absolute_gaussian", "scale"): ((0, 0.05, 3), (-0.1,)),
    ("systematic_bias", "scale"): ((0, 0.05, 3), (-0.1,)),
    ("relative_bias", "scale"): ((0, 0.05, 3), (-0.1,)),
    ("spread_bias", "scale"): ((0, 0.05, 3), (-0.1,)),
    ("truncation", "step"): ((0, 0.05, 3), (-0.1,)),
    ("deadzone", "threshold"): ((0, 0.999), (-0.1, 1, 1.5)),
    ("saturation", "margin"): ((0, 0.999), (-0.1, 1, 1.5)),
    ("absolute_saturation", "limit"): ((1e-9, 6), (0, -0.1, None)),
    ("spike", "rate"): ((0, 0.5, 1), (-0.1, 1.1)),
    ("spike", "magnitude"): ((1e-9, 10), (0, -0.1, None)),
    ("stuck_at", "rate"): ((0, 0.5, 1), (-0.1, 1.1)),
    ("stuck_at", "value"): ((-5, 0, 0.5), (None,)),
    ("bit_flip", "rate"): ((0, 0.5, 1), (-0.1, 1.1)),
    ("bit_flips", "rate"): ((0, 0.5, 1), (-0.1, 1.1)),
    ("stuck_lane", "rate"): ((0, 0.5, 1), (-0.1, 1.1)),
    ("stuck_lane", "value"): ((-5, 0, 0.5), (None,)),
    ("fault_mix", "rate"): ((0, 0.5, 1), (-0.1, 1.1)),
    ("fault_mix", "single"): ((0, 0.5, 1), (-0.1, 1.1, None)),
    ("fault_mix", "special"): ((0, 0.5, 1), (-0.1, 1.1, None)),
}
FLIPS = {"bit_flip", "bit_flips", "fault_mix"}
STRENGTHLESS = ("absolute_saturation", "fake_quant")


def number_fields():
    """(model, field) of every field that is a float."""
    return {
        (name, field.name)
        for name, model in ERROR_MODELS.items()
        for field in dataclasses.fields(model)
        if "float" in str(field.type)
    }


def test_every_number_field_has_its_rule_tested():
    assert set(NUMBERS) == number_fields()


@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_numbers_in_range_are_kept_as_floats(name, field):
    for value in NUMBERS[name, field][0]:
        found = getattr(make_error(name, {field: value}), field)
        assert found == value
        assert type(found) is float


@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_other_numbers_are_refused_in_one_line(name, field, refusal):
    for value in (*NUMBERS[name, field][1], *NO_NUMBERS):
        text = refusal(make_error, name, {field: value}, kind=NoiseSpecError)
        assert text.startswith(f"{field} {value!r} of {name}; a "), text
        assert f"write for example {ERROR_MODELS[name].example(field)}" in text


@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_the_examples_of_the_messages_are_specifications(name, field):
    from harness.spec import parse_noise

    model = ERROR_MODELS[name]
    assert getattr(parse_noise(model.example(field)).error, field) == (0.05 if field == model.strength else 1)


def test_minus_zero_is_zero():
    assert math.copysign(1, StuckAt(0.1, -0.0).value) == 1
    assert math.copysign(1, RelativeGaussian(-0.0).scale) == 1


@pytest.mark.parametrize("bit", [-1, 32, 1.0, True, "3", None, math.nan])
def test_a_bit_is_a_position(bit):
    assert BitFlip(0.1, 31).bit == 31
    with pytest.raises(NoiseSpecError, match="an integer from 0 to 31"):
        BitFlip(0.1, bit)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("format", "fp8_e4m", "did you mean 'fp8_e4m3'?"),
        ("scale_rule", "flor", "did you mean 'floor'?"),
        ("rounding", "nearest", "did you mean 'nearest_even'?"),
        ("format", 8, "format 8 of fake_quant; unknown format; write for example fake_quant(mxfp4)"),
        ("format", "e8m0", "it holds scales, not values"),
        ("format", ["bf16"], "format ['bf16'] of fake_quant; unknown format"),
        ("rounding", None, "unknown rounding"),
    ],
)
def test_names_of_a_format_are_known_ones(field, value, words):
    with pytest.raises(NoiseSpecError) as caught:
        FakeQuant(**{field: value})
    assert words in str(caught.value)


def test_a_scale_rule_is_kept_where_there_is_one_and_refused_elsewhere():
    assert FakeQuant("mxfp4") == FakeQuant("mxfp4", "floor") != FakeQuant("mxfp4", "even")
    assert FakeQuant("mxfp8").format == "mxfp8_e4m3", "an alias is kept as the row that it means"
    assert FakeQuant("nvfp4", "floor").scale_rule is None is FakeQuant().scale_rule
    with pytest.raises(NoiseSpecError, match="scale rule 'even' with nvfp4; only power-of-two scales have one"):
        FakeQuant("nvfp4", "even")


def test_what_a_fake_quant_is_follows_from_its_format_and_rounding():
    assert not FakeQuant("mxfp4").random and FakeQuant("mxfp4", rounding="stochastic").random
    assert FakeQuant("mxfp4").row_statistic and not FakeQuant("bf16").row_statistic


def test_unknown_models_and_fields_name_the_nearest():
    with pytest.raises(NoiseSpecError, match="unknown error model 'spkie'; did you mean 'spike'"):
        make_error("spkie", {})
    with pytest.raises(NoiseSpecError, match="unknown parameter 'mangitude' of spike; did you mean 'magnitude'"):
        make_error("spike", {"mangitude": 3})


@pytest.mark.parametrize("model", ERROR_MODELS.values(), ids=list(ERROR_MODELS))
def test_a_level_sets_the_strength_and_nothing_else(model):
    error = model()
    assert make_error(model.name, {}) == error
    assert error.unit in ("fraction", "value")
    assert model.formula and model.expected and "/" not in model.name
    if model.strength is None:
        assert model.name in STRENGTHLESS
        assert error.at(0.3) is error and error.without_level is error and error.level == 1.0
        return
    assert error.level is None
    assert error.at(0.25).level == getattr(error.at(0.25), model.strength) == 0.25
    assert error.at(0.25).without_level == error
    assert str(error) == model.name
    assert str(error.at(0.25)) == f"{model.name}(0.25)"
    assert error.expected_relative_rms(0.25) in (None, 0.25)


def test_a_level_keeps_the_other_fields():
    assert Spike(0.1, 3).at(0.2) == Spike(0.2, 3)
    assert str(Spike(magnitude=3)) == "spike(magnitude=3)"
    assert str(Spike(magnitude=10)) == "spike"
    assert Nondeterministic(0.1) != RelativeGaussian(0.1)


def test_units_of_the_strengths():
    absolute = {name for name, model in ERROR_MODELS.items() if model.unit == "value"}
    assert absolute == {"absolute_gaussian", "systematic_bias", "truncation"}


@pytest.mark.parametrize("spelling", [function for op in OPS.values() for function in op.functions])
def test_every_spelling_is_a_function_of_torch(spelling):
    found = torch
    for part in spelling.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_the_table_of_operators_is_closed():
    assert all(name == op.name for name, op in OPS.items())
    spellings = [function for op in OPS.values() for function in op.functions]
    assert len(spellings) == len(set(spellings))
    for named in (*PROFILES.values(), *(op.selects for op in OPS.values())):
        assert set(named) <= set(OPS)
    assert {kind for kinds in SCOPES.values() for kind in kinds} <= {*OPS, "mlp"}
    assert all(op.modules for kinds in SCOPES.values() for kind in kinds if kind != "mlp" for op in [OPS[kind]])
    assert selected(("matmul", "softmax")) == {"matmul", "qk", "pv", "softmax"}


def test_selectors_cover_the_fields_and_collide_with_no_parameter():
    assert {*SELECTORS.values(), "error"} == {field.name for field in dataclasses.fields(NoiseSpec)}
    assert {*PLACES, *LISTS} <= set(SELECTORS)
    parameters = {field.name for model in ERROR_MODELS.values() for field in dataclasses.fields(model)}
    assert not parameters & {*SELECTORS, "error"}


def test_places_in_one_order_without_what_another_includes():
    assert NoiseSpec().ops == ("linear",)
    assert NoiseSpec(ops=("pv", "matmul", "linear", "linear")).ops == ("linear", "matmul")
    assert NoiseSpec(ops=("conv1d", "qk")).ops == ("conv1d", "qk")
    assert NoiseSpec(profile="linear") == NoiseSpec()
    spec = NoiseSpec(profile="matmul")
    assert (spec.ops, spec.profile) == ((), "matmul")
    assert spec.asked_ops == ("linear", "matmul", "bmm", "einsum")
    assert spec.operators == {"linear", "conv1d", "matmul", "qk", "pv", "bmm", "einsum"}
    assert NoiseSpec(modules=("mlp",)).operators == frozenset()


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        (((3, 3),), ((3, 3),)),
        (((5, 6), (0, 1)), ((0, 1), (5, 6))),
        (((0, 1), (2, 3)), ((0, 3),)),
        (((0, 9), (2, 3), (4, 11)), ((0, 11),)),
        (((0, 9), (2, 3)), ((0, 9),)),
        (((0, 1), (3, 4)), ((0, 1), (3, 4))),
        ([[1, 2]], ((1, 2),)),
    ],
)
def test_layers_are_sorted_and_joined(layers, found):
    assert NoiseSpec(layers=layers).layers == found


@pytest.mark.parametrize("pattern", ["mlp", "model.layers.*.mlp", "h.[0-3].attn", "layers.?", "[!q]_proj"])
def test_patterns_are_globs_over_components(pattern):
    assert NoiseSpec(modules=(pattern, pattern)).modules == (pattern,)


@pytest.mark.parametrize("pattern", ["", ".mlp", "a..b", "mlp.", "a b", "a,b", "a/b", "a;b", "a:b", "é"])
@pytest.mark.parametrize("name", ["modules", "classes", "include", "exclude"])
def test_other_patterns_are_refused(name, pattern, refusal):
    text = refusal(lambda: NoiseSpec(**{name: (pattern,)}), kind=NoiseSpecError)
    assert f"pattern {pattern!r}" in text and "a glob over the components" in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"error": "spike"}, "error 'spike'; it is an error model"),
        ({"error": None}, "it is an error model"),
        ({"ops": "linear"}, "ops 'linear'; it is a list of names"),
        ({"modules": "mlp"}, "modules 'mlp'; it is a list of names"),
        ({"include": (1,)}, "include (1,); it is a list of names"),
        ({"phases": "training"}, "it is a list of names"),
        ({"layers": 3}, "layers 3; it is a list"),
        ({"layers": (3,)}, "layers 3; a range is FIRST-LAST"),
        ({"layers": ((4, 2),)}, "layers 4-2; a range is FIRST-LAST"),
        ({"layers": ((-1, 2),)}, "a range is FIRST-LAST"),
        ({"layers": ((1.0, 2),)}, "a range is FIRST-LAST"),
        ({"layers": ((0, 2**63),)}, "a range is FIRST-LAST"),
        ({"layers": ((1, 2, 3),)}, "a range is FIRST-LAST"),
        ({"profile": ["linear"]}, "profile ['linear']; it is one name"),
        ({"profile": "matmull"}, "did you mean 'matmul'"),
        ({"profile": ""}, "unknown profile ''"),
        ({"scope": "mpl"}, "did you mean 'mlp'"),
        ({"ops": ("softmx",)}, "did you mean 'softmax'"),
        ({"key": "itm"}, "unknown key mode 'itm'; key:item or key:shared; did you mean 'item'"),
        ({"key": None}, "key None; it is one name"),
        ({"at": "weights"}, "unknown injection point 'weights'; at:output or at:input or at:weight; did you mean"),
        ({"when": "backwards"}, "unknown direction 'backwards'"),
        ({"phases": ("trainig",)}, "unknown phase 'trainig'; did you mean 'training'"),
        ({"seed": -1}, "noise seed -1; a seed is an integer >= 0"),
        ({"seed": 1.0}, "a seed is an integer >= 0"),
        ({"seed": True}, "a seed is an integer >= 0"),
        ({"seed": 2**63}, "below 2**63"),
        ({"ops": ("linear",), "profile": "matmul"}, "op and profile in one noise specification; a place (op, profile"),
        ({"scope": "all", "modules": ("a",), "classes": ("B",)}, "scope and module and class in one"),
        ({"at": "weight", "when": "backward"}, "at:weight when:backward"),
        ({"at": "weight", "when": "both"}, "at:weight when:both"),
    ],
)
def test_what_is_no_specification_is_refused(settings, words):
    with pytest.raises(NoiseSpecError) as caught:
        NoiseSpec(**settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_times_and_levels():
    spec = NoiseSpec(Spike(0.1), when="both", phases=("validation", "rollout", "rollout"))
    assert spec.forward and spec.backward
    assert spec.phases == ("rollout", "validation")
    assert not NoiseSpec(when="backward").forward and not NoiseSpec().backward
    assert spec.level == 0.1 and spec.without_level.level is None
    assert spec.at_level(0.2) == dataclasses.replace(spec, error=Spike(0.2))
    assert hash(NoiseSpec(ops=["linear"])) == hash(NoiseSpec())


def test_what_audits_and_replays_ask_of_a_model_is_its_own():
    """The same answers as the lists in the auditor and in the replays gave, which no model can now be left out of."""
    models = {name: model() for name, model in ERROR_MODELS.items()}
    rough = {name for name, model in models.items() if model.rough}
    assert rough == {"systematic_bias", "truncation", "deadzone", "fake_quant"} | FLIPS
    assert {name for name, model in models.items() if model.not_replayed} == {"nondeterministic"}
    assert {name for name, model in models.items() if model.expected_share(0.1) == 0.1} == {"spike"} | FLIPS
    assert {name for name, model in models.items() if model.expected_rms(0.1) == 0.1} == {"absolute_gaussian"}
    relative = {name for name, model in models.items() if model.expected_relative_rms(0.1) == 0.1}
    assert relative == {"relative_gaussian", "nondeterministic", "relative_bias"}
    repeat = {name for name, model in models.items() if model.random and not model.draws_per_row}
    assert repeat == {"stuck_at"}
    assert {name for name, model in models.items() if model.recipe is not None} == {"fake_quant"}
    assert models["fake_quant"].grid_step == 2.0**-3
    assert models["relative_gaussian"].grid_step == 0.0
