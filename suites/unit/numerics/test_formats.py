"""The rows: what follows from them, and that they are what the formats' descriptions say."""

import importlib.util
import math

import pytest
import torch

from harness.spec.formats import (
    ALIASES,
    ELEMENTS,
    FORMATS,
    POWER_OF_TWO,
    ROUNDINGS,
    SCALE_RULES,
    TWO_LEVEL,
    UNSCALED,
    Element,
    Format,
    Recipe,
    find_format,
    find_scale_rule,
)

pytestmark = pytest.mark.unit
MAGNITUDES = {
    "fp4_e2m1": (8, 0.5, 6.0, 2),
    "fp6_e2m3": (32, 0.125, 7.5, 2),
    "fp6_e3m2": (32, 2.0**-4, 28.0, 4),
    "fp8_e4m3": (127, 2.0**-9, 448.0, 8),
    "fp8_e5m2": (124, 2.0**-16, 57344.0, 15),
    "int8": (128, 1.0, 127.0, 6),
    "int4": (8, 1.0, 7.0, 2),
    "mx_int8": (128, 2.0**-6, 127 / 64, 0),
}
BITS = {
    "mxfp4": 4.25,
    "mxfp6_e2m3": 6.25,
    "mxfp8_e4m3": 8.25,
    "mxint8": 8.25,
    "nvfp4": 4.5,
    "nvfp4_16x16": 4 + 8 / 256,
    "mxfp4_32x32": 4 + 8 / 1024,
    "int4_g32": 4.5,
    "int4_g128": 4.125,
    "int8_channel": 8,
    "fp8_e4m3_tensor": 8,
    "bf16": 16,
}


@pytest.mark.parametrize("package", ["ml_dtypes", "gfloat"])
def test_what_the_formats_are_compared_with_is_installed(package):
    """The contract tests would otherwise be skipped or fail to load with an error that tells less."""
    assert importlib.util.find_spec(package) is not None, "install the test extras: pip install -e .[dev]"


@pytest.mark.parametrize("name", MAGNITUDES)
def test_elements_have_the_values_of_their_description(name):
    count, least, largest, top = MAGNITUDES[name]
    found = ELEMENTS[name].magnitudes
    assert (len(found), found[0], found[1], found[-1]) == (count, 0.0, least, largest)
    assert ELEMENTS[name].step == least
    assert ELEMENTS[name].largest_exponent == top
    assert list(found) == sorted(set(found))


def test_e2m1_in_full():
    assert ELEMENTS["fp4_e2m1"].magnitudes == (0, 0.5, 1, 1.5, 2, 3, 4, 6)


@pytest.mark.parametrize("name", [name for name, element in ELEMENTS.items() if element.dtype])
def test_elements_that_torch_has_agree_with_it(name):
    element, info = ELEMENTS[name], torch.finfo(getattr(torch, ELEMENTS[name].dtype))
    assert element.largest == info.max
    assert 2.0**element.smallest_exponent == info.smallest_normal
    assert 2.0**-element.mantissa_bits == info.eps
    assert element.bits == info.bits


def test_the_tables_are_by_name_and_cannot_be_written():
    for table in (ELEMENTS, FORMATS):
        assert all(name == row.name for name, row in table.items())
        with pytest.raises(TypeError):
            table["mine"] = None
    assert set(ALIASES.values()) <= set(FORMATS) and not set(ALIASES) & set(FORMATS)


@pytest.mark.parametrize("name", BITS)
def test_bits_per_element(name):
    assert FORMATS[name].bits_per_element == BITS[name]


def test_a_name_without_a_scale_rule_says_floor():
    assert FORMATS["mxfp4"].full_name() == "mxfp4 (scale rule floor)"
    assert FORMATS["mxfp4"].full_name("even") == "mxfp4 (scale rule even)"
    assert FORMATS["nvfp4"].full_name() == "nvfp4"
    assert str(Recipe.of("mxfp4")) == "mxfp4 (scale rule floor)"
    assert str(Recipe.of("mxfp8", "ceil", "stochastic")) == "mxfp8_e4m3 (scale rule ceil), stochastic"
    assert str(Recipe.of("int8_channel", rounding="toward_zero")) == "int8_channel, toward_zero"


def test_kinds():
    assert {name for name, row in FORMATS.items() if row.has_scale_rule} == {
        *(name for name in FORMATS if name.startswith("mx")),
    }
    assert {name for name, row in FORMATS.items() if row.is_tiled} == {
        *("mxfp4_32x32", "nvfp4_16x16", "fp8_e4m3_tensor", "fp8_e5m2_tensor"),
    }
    assert all(FORMATS[name].scale == UNSCALED for name in ELEMENTS if name in FORMATS)


def test_recipes_of_names_aliases_and_rows():
    assert Recipe.of("mxfp6") == Recipe.of("mxfp6_e2m3", "floor") == Recipe.of(FORMATS["mxfp6_e2m3"])
    assert Recipe.of("nvfp4", "floor").scale_rule is None
    mine = Format("mine", Element("fp5_e2m2", 5, 2, 0, 7.0), POWER_OF_TWO, 8)
    assert Recipe.of(mine, "rceil") == Recipe(mine, "rceil", ROUNDINGS[0])
    assert [find_scale_rule(mine, rule) for rule in (None, *SCALE_RULES)] == ["floor", *SCALE_RULES]
    assert math.isclose(Format("two", ELEMENTS["fp4_e2m1"], TWO_LEVEL, 32).bits_per_element, 4.25)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("mxpf4",), "unknown format 'mxpf4'; did you mean 'mxfp4'"),
        (("e8m0",), "it holds scales, not values"),
        (("mxfp4", "flor"), "unknown scale rule 'flor'; did you mean 'floor'"),
        (("nvfp4", "flor"), "unknown scale rule 'flor'"),
        (("nvfp4", "even"), "scale rule 'even' with nvfp4; only power-of-two scales have one; drop it"),
        (("mxfp4", None, "nearest"), "unknown rounding 'nearest'; did you mean 'nearest_even'"),
        ((3,), "unknown format 3; known: "),
    ],
)
def test_other_names_are_refused_with_the_nearest(given, words):
    with pytest.raises(ValueError) as caught:
        Recipe.of(*given)
    assert words in str(caught.value)


def test_find_format_reads_aliases():
    assert find_format("mxfp8") is FORMATS["mxfp8_e4m3"]
