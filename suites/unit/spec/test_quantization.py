"""What an evaluation quantizes: the short form, the long form, and what is refused."""

from __future__ import annotations

import pytest

from harness.exceptions import HarnessError, NoiseSpecError
from harness.spec import EvalSpec, FakeQuant, NoiseSpec, parse_quantization, quantization, quantization_text

pytestmark = pytest.mark.unit


def test_weights_activations_and_both() -> None:
    weights, activations = quantization("weights", "mxfp4"), quantization("activations", "mxfp8", "rceil")
    assert weights == NoiseSpec(FakeQuant("mxfp4", "floor"), at="weight")
    assert activations == NoiseSpec(FakeQuant("mxfp8_e4m3", "rceil"), at="input")
    assert parse_quantization("weights=mxfp4") == (weights,)
    assert set(parse_quantization("activations=mxfp8:rceil, weights=mxfp4")) == {weights, activations}


def test_the_order_does_not_matter() -> None:
    assert parse_quantization("weights=mxfp4,activations=nvfp4") == parse_quantization(
        "activations=nvfp4,weights=mxfp4"
    )


def test_the_long_form_says_where() -> None:
    (spec,) = parse_quantization("fake_quant(mxfp4, scale_rule=even) @ op:linear at:weight layers:2-5")
    assert spec.layers == ((2, 5),) and spec.error == FakeQuant("mxfp4", "even")
    assert len(parse_quantization("fake_quant(mxfp4) @ at:weight; fake_quant(nvfp4) @ at:input")) == 2


def test_the_rule_in_force_is_written_out() -> None:
    assert quantization_text(parse_quantization("weights=mxfp4")) == (
        "fake_quant(format=mxfp4, scale_rule=floor) @ op:linear at:weight"
    )
    assert quantization_text(()) == "none"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mxfp4", "write weights=mxfp4"),
        ("weight=mxfp4", "did you mean 'weights'?"),
        ("weights=mxpf4", "did you mean 'mxfp4'?"),
        ("weights=mxfp4:flor", "did you mean 'floor'?"),
        ("weights=nvfp4:even", "only power-of-two scales"),
        ("weights=", "unknown format ''"),
        ("", "it says what is quantized"),
        ("weights=e8m0", "holds scales, not values"),
        ("weights=mxfp4,weights=mxfp4", "given twice"),
        ("fake_quant(mxfp4) @ op:linear", "at:weight or at:input"),
        ("relative_gaussian(0.05) @ op:linear at:weight", "at:weight or at:input"),
        ("fake_quant(mxfp4) @ at:input when:both", "every forward pass"),
        ("fake_quant(mxfp4) @ at:input phase:rollout", "every forward pass"),
        ("fake_quant(mxfp4) @ at:weight seed:3", "every forward pass"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(NoiseSpecError) as refused:
        parse_quantization(text)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_an_evaluation_keeps_it_through_json() -> None:
    spec = EvalSpec("arith", quantization=parse_quantization("weights=mxfp4,activations=mxfp8"))
    assert EvalSpec.from_json(spec.to_json()) == spec
    before = {name: value for name, value in spec.to_json().items() if name != "quantization"}
    assert EvalSpec.from_json(before).quantization == ()  # written before there was any


def test_an_evaluation_refuses_another_error_model() -> None:
    with pytest.raises(HarnessError, match="at:weight or at:input"):
        EvalSpec("arith", quantization=(NoiseSpec(at="weight"),))
