"""The one-line form reads back what it prints, and what is wrong in it is named with the way out."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exceptions import NoiseSpecError
from harness.spec import FakeQuant, NoiseSpec, RelativeGaussian, parse_noise, parse_noises, print_noise
from harness.spec.errors import BitFlip, Deadzone, Spike

pytestmark = pytest.mark.unit


@given(data=st.data())
def test_round_trip(specs, data):
    spec = data.draw(specs)
    text = str(spec)
    assert parse_noise(text) == spec
    assert print_noise(parse_noise(text)) == text
    assert "\n" not in text and ";" not in text


@given(data=st.data())
def test_several_round_trip(specs, data):
    several = tuple(dict.fromkeys(data.draw(st.lists(specs, min_size=1, max_size=3))))
    assert parse_noises("; ".join(map(str, several))) == several


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (NoiseSpec(), "relative_gaussian @ op:linear"),
        (NoiseSpec(key="shared"), "relative_gaussian @ op:linear key:shared"),
        (NoiseSpec(RelativeGaussian(0.05), ("rotary",)), "relative_gaussian(0.05) @ op:rotary"),
        (NoiseSpec(profile="linear"), "relative_gaussian @ op:linear"),
        (NoiseSpec(profile="matmul"), "relative_gaussian @ profile:matmul"),
        (NoiseSpec(Spike(0.001, 20), scope="mlp"), "spike(0.001, magnitude=20) @ scope:mlp"),
        (NoiseSpec(FakeQuant("bf16"), classes=("*Norm",)), "fake_quant(format=bf16) @ class:*Norm"),
        (
            NoiseSpec(
                BitFlip(bit=22),
                modules=("mlp.up_proj", "mlp.*_proj"),
                at="input",
                layers=((14, 17), (0, 0)),
                include=("a.b",),
                exclude=("c", "d"),
                when="both",
                phases=("validation", "training"),
                key="shared",
                seed=7,
            ),
            "bit_flip(bit=22) @ module:mlp.up_proj,mlp.*_proj at:input layers:0,14-17 include:a.b exclude:c,d "
            "when:both phase:training,validation key:shared seed:7",
        ),
    ],
)
def test_what_is_printed(spec, text):
    assert str(spec) == text
    assert parse_noise(text) == spec


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("relative_gaussian", "relative_gaussian @ op:linear"),
        ("  relative_gaussian( 0.05 )@op:linear ", "relative_gaussian(0.05) @ op:linear"),
        ("relative_gaussian(scale=0.05)", "relative_gaussian(0.05) @ op:linear"),
        ("relative_gaussian @ key:shared op:linear", "relative_gaussian @ op:linear key:shared"),
        ("relative_gaussian @ op:linear key:item seed:0 at:output", "relative_gaussian @ op:linear"),
        ("relative_gaussian @ op:matmul,linear,qk", "relative_gaussian @ op:linear,matmul"),
        ("relative_gaussian @ layers:3,1-2,2", "relative_gaussian @ op:linear layers:1-3"),
        ("spike(0.001, 20)", "spike(0.001, magnitude=20) @ op:linear"),
        ("spike(magnitude=20, rate=1e-3)", "spike(0.001, magnitude=20) @ op:linear"),
        ("spike(0.001, magnitude=10)", "spike(0.001) @ op:linear"),
        ("bit_flip(0.5, 3)", "bit_flip(0.5, bit=3) @ op:linear"),
        ("fake_quant(fp8_e5m2)", "fake_quant(format=fp8_e5m2) @ op:linear"),
        ("fake_quant(format=fp8_e4m3)", "fake_quant @ op:linear"),
        ("fake_quant(mxfp4)", "fake_quant(format=mxfp4, scale_rule=floor) @ op:linear"),
        ("fake_quant(mxfp8, even)", "fake_quant(format=mxfp8_e4m3, scale_rule=even) @ op:linear"),
        ("fake_quant(nvfp4, floor, stochastic)", "fake_quant(format=nvfp4, rounding=stochastic) @ op:linear"),
    ],
)
def test_other_spellings_print_alike(text, same):
    assert str(parse_noise(text)) == same


def test_names_stand_for_their_operators():
    assert parse_noise("relative_gaussian").ops == ("linear",)
    assert parse_noise("relative_gaussian @ op:matmul,linear").ops == ("linear", "matmul")
    assert parse_noise("relative_gaussian @ profile:matmul").profile == "matmul"
    assert parse_noise("deadzone(0.5) @ op:rotary key:shared") == NoiseSpec(Deadzone(0.5), ("rotary",), "shared")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("relative_gausian @ op:linear", "unknown error model 'relative_gausian'; did you mean 'relative_gaussian'"),
        ("relative_gausian(1, 2, 3)", "unknown error model"),
        ("relative_gaussian @ op:linaer", "did you mean 'linear'"),
        ("relative_gaussian @ profile:linaer", "did you mean 'linear'"),
        ("relative_gaussian @ scope:lineer", "did you mean 'linear'"),
        ("relative_gaussian @ ops:linear", "unknown selector 'ops'"),
        ("relative_gaussian @ ops:linear", "did you mean 'op'"),
        ("relative_gaussian @ layer:3", "did you mean 'layers'"),
        ("relative_gaussian @ phases:training", "did you mean 'phase'"),
        ("relative_gaussian @ op:linear op:qk", "given once"),
        ("relative_gaussian @ seed:1 seed:1", "given once"),
        ("relative_gaussian @ op:linear profile:matmul", "op and profile in one noise specification"),
        ("relative_gaussian @ op:linear profile:matmul", "given once"),
        ("relative_gaussian @ scope:all class:Linear", "scope and class in one noise specification"),
        ("relative_gaussian @ linear", "name:value"),
        ("relative_gaussian @ op:", "name:value"),
        ("relative_gaussian @", "no selector follows the @"),
        ("relative_gaussian @ op:linear @ op:qk", "name:value"),
        ("relative_gaussian @ op:linear,", "a list in which nothing is empty"),
        ("relative_gaussian @ op:linear matmul", "each selector is name:value; write for example op:linear,matmul"),
        ("relative_gaussian @ layers:1,,2", "a list in which nothing is empty"),
        ("relative_gaussian @ layers:one", "layers 'one'; a layer is a number or a range FIRST-LAST"),
        ("relative_gaussian @ layers:4-", "a layer is a number or a range"),
        ("relative_gaussian @ layers:-4", "a layer is a number or a range"),
        ("relative_gaussian @ layers:٣", "a layer is a number or a range"),
        ("relative_gaussian @ layers:4-2", "layers 4-2"),
        ("relative_gaussian @ layers:" + "9" * 5000, "a layer is a number or a range"),
        ("relative_gaussian @ layers:" + "9" * 19, "a range is FIRST-LAST"),
        ("relative_gaussian @ module:a..b", "pattern 'a..b' in module:; a pattern is a glob"),
        ("relative_gaussian @ seed:x", "noise seed 'x'; a seed is an integer >= 0"),
        ("relative_gaussian @ seed:-1", "a seed is an integer >= 0"),
        ("relative_gaussian @ seed:" + "9" * 5000, "a seed is an integer >= 0"),
        ("relative_gaussian @ key:chip", "key:item or key:shared"),
        ("relative_gaussian @ at:outptu", "did you mean 'output'"),
        ("relative_gaussian @ when:never", "unknown direction 'never'"),
        ("relative_gaussian @ phase:train", "unknown phase 'train'; did you mean 'training'"),
        ("relative_gaussian @ at:weight when:both", "at:weight when:both"),
        ("relative_gaussian(five) @ op:linear", "scale 'five' of relative_gaussian; a scale is a number"),
        ("spike(magnitude=big)", "magnitude 'big' of spike; a magnitude is a number; write spike(0.05, magnitude=1)"),
        ("bit_flip(0.1, 2.5)", "bit '2.5' of bit_flip; a bit is an integer; write bit_flip(0.05, bit=1)"),
        ("bit_flip(0.1, 32)", "an integer from 0 to 31"),
        ("relative_gaussian(-1)", "finite fraction"),
        ("relative_gaussian(nan)", "finite fraction"),
        ("relative_gaussian(inf)", "finite fraction"),
        ("relative_gaussian(1e400)", "finite fraction"),
        ("relative_gaussian(0.1", "error_model(scale)"),
        ("relative_gaussian 0.1", "error_model(scale)"),
        ("relative_gaussian(0.1)(0.2)", "error_model(scale)"),
        ("", "error_model(scale)"),
        ("@ op:linear", "error_model(scale)"),
        ("relative_gaussian()", "arguments are values in order"),
        ("spike(0.1,)", "arguments are values in order"),
        ("spike(rate=)", "arguments are values in order"),
        ("spike(magnitude=3, 0.1)", "argument '0.1' of spike(magnitude=3, 0.1); arguments are values in order"),
        ("spike(0.1, 3, 4)", "spike(0.1, 3, 4); it takes at most 2 arguments; in order: rate, magnitude"),
        ("spike(0.1, rate=0.2)", "rate in spike(0.1, rate=0.2); it is given twice"),
        ("spike(rate=0.1, rate=0.1)", "it is given twice"),
        ("spike(0.1, mangitude=3)", "unknown parameter 'mangitude' of spike; did you mean 'magnitude'"),
        ("spike(=3)", "unknown parameter '' of spike"),
        ("fake_quant(fp8)", "unknown format 'fp8'; did you mean"),
        ("fake_quant(nvfp4, even)", "scale rule 'even' with nvfp4; only power-of-two scales have one"),
        ("fake_quant(fp8_e4m4)", "did you mean 'fp8_e4m3'"),
        ("relative_gaussian @ op:linear; spike", "name:value"),
    ],
)
def test_what_is_wrong_is_named(text, words):
    with pytest.raises(NoiseSpecError) as caught:
        parse_noise(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(text=st.text("relativ_gausn@op:linear;,()=0.5- ", max_size=40))
def test_garbage_is_refused_as_a_specification(text):
    with contextlib.suppress(NoiseSpecError):
        assert parse_noise(str(parse_noise(text))) == parse_noise(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no specification between semicolons may be empty"),
        ("spike;", "no specification between semicolons may be empty"),
        ("spike;; deadzone", "no specification between semicolons may be empty"),
        ("spike; spike @ op:linear", "noise 'spike @ op:linear'; it is given twice"),
        ("spike; spkie", "did you mean 'spike'"),
    ],
)
def test_wrong_lists_are_named(text, words):
    with pytest.raises(NoiseSpecError) as caught:
        parse_noises(text)
    assert words in str(caught.value)


def test_lists_keep_their_order():
    assert parse_noises("spike(0.1) ; deadzone @ op:softmax") == (
        NoiseSpec(Spike(0.1)),
        NoiseSpec(Deadzone(), ("softmax",)),
    )
