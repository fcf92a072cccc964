"""A TOML file, one line and Python objects say the same; what is wrong in a file is named with its table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.exceptions import NoiseSpecError
from harness.spec import NoiseSpec, dump_noises, load_noises, parse_noise
from harness.spec.errors import BitFlip, FakeQuant, Spike

pytestmark = pytest.mark.unit
FILE = """
# two specifications
[[noise]]
error = "spike"
rate = 0.001
magnitude = 20
op = ["matmul", "linear"]
layers = "0,14-17"
exclude = "lm_head, model.embed_tokens"
phase = ["training"]
seed = 7

[[noise]]
error = "bit_flip"
bit = 3
class = "*RMSNorm"
layers = [2, "4-6", 3]
at = "input"
when = "both"
key = "shared"
"""
LINES = (
    "spike(0.001, magnitude=20) @ op:linear,matmul layers:0,14-17 exclude:lm_head,model.embed_tokens "
    "phase:training seed:7",
    "bit_flip(bit=3) @ class:*RMSNorm at:input layers:2-6 when:both key:shared",
)
OBJECTS = (
    NoiseSpec(
        Spike(0.001, 20),
        ("linear", "matmul"),
        layers=((0, 0), (14, 17)),
        exclude=("lm_head", "model.embed_tokens"),
        phases=("training",),
        seed=7,
    ),
    NoiseSpec(BitFlip(bit=3), classes=("*RMSNorm",), layers=((2, 6),), at="input", when="both", key="shared"),
)
DUMPED = """\
[[noise]]
error = "spike"
rate = 0.001
magnitude = 20
op = ["linear", "matmul"]
layers = ["0", "14-17"]
exclude = ["lm_head", "model.embed_tokens"]
phase = ["training"]
seed = 7

[[noise]]
error = "bit_flip"
bit = 3
class = ["*RMSNorm"]
at = "input"
layers = ["2-6"]
when = "both"
key = "shared"
"""


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes text or bytes to a file and gives its path."""
    folder = tmp_path_factory.mktemp("noise")

    def to_file(content):
        path = folder / "noise.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


def test_three_ways_to_say_the_same(write):
    assert load_noises(write(FILE)) == OBJECTS == tuple(map(parse_noise, LINES))
    assert tuple(map(str, OBJECTS)) == LINES
    assert dump_noises(OBJECTS) == DUMPED
    assert load_noises(str(write(DUMPED))) == OBJECTS


@given(data=st.data())
def test_round_trip(specs, write, data):
    several = tuple(dict.fromkeys(data.draw(st.lists(specs, min_size=1, max_size=3))))
    text = dump_noises(several)
    found = load_noises(write(text))
    assert found == several == tuple(parse_noise(str(spec)) for spec in found)
    assert dump_noises(found) == text


def test_names_and_defaults(write):
    assert load_noises(write('[[noise]]\nerror = "fake_quant"\nformat = "bf16"')) == (NoiseSpec(FakeQuant("bf16")),)
    assert load_noises(write('noise = [{error = "spike", profile = "matmul"}]')) == (
        NoiseSpec(Spike(), profile="matmul"),
    )


TABLE = '[[noise]]\nerror = "spike"\n'
WRONG = {
    "empty": ("", "it holds one or more [[noise]] tables"),
    "one table": ('[noise]\nerror = "spike"', "start one with [[noise]]"),
    "no tables": ("noise = []", "it holds one or more [[noise]] tables"),
    "a number": ("noise = 3", "it holds one or more [[noise]] tables"),
    "numbers": ("noise = [3]", "it holds one or more [[noise]] tables"),
    "another table": (f"{TABLE}[other]\nx = 1", "unknown key 'other'"),
    "a near name": ('[[nosie]]\nerror = "spike"', "unknown key 'nosie'"),
    "near name's nearest": ('[[nosie]]\nerror = "spike"', "did you mean 'noise'"),
    "no toml": ("[[noise", "it is not valid TOML"),
    "key twice": (f'{TABLE}error = "spike"', "it is not valid TOML"),
    "no text": (b"\xff\xfe", "it is not UTF-8 text"),
    "deep": ("noise = " + "[" * 100_000, "it is not valid TOML"),
    "no error": ('[[noise]]\nop = "linear"', "table 1: no error; the error model is missing"),
    "error of another type": ("[[noise]]\nerror = 3", "table 1: error 3; it names the error model"),
    "unknown error": ('[[noise]]\nerror = "spkie"', "did you mean 'spike'"),
    "unknown key": (f'{TABLE}ops = "linear"', "table 1: unknown key 'ops'; nothing reads it; did you mean 'op'"),
    "unknown parameter": (
        f"{TABLE}mangitude = 3",
        "unknown key 'mangitude'; nothing reads it; did you mean 'magnitude'",
    ),
    "parameter of another model": (f"{TABLE}scale = 3", "unknown key 'scale'"),
    "number as text": (f'{TABLE}rate = "0.1"', "rate '0.1' of spike"),
    "number as truth": (f"{TABLE}rate = true", "rate True of spike"),
    "out of range": (f"{TABLE}rate = 1.5", "a rate is a fraction in [0, 1]"),
    "infinite": (f"{TABLE}magnitude = inf", "a magnitude is a finite number > 0"),
    "bit of another type": ('[[noise]]\nerror = "bit_flip"\nbit = 3.0', "an integer from 0 to 31"),
    "unknown op": (f'{TABLE}op = ["linaer"]', "did you mean 'linear'"),
    "commas in an array": (f'{TABLE}op = ["linear,matmul"]', "unknown operator 'linear,matmul'"),
    "op number": (f"{TABLE}op = 3", "op:3; it is a list"),
    "op numbers": (f"{TABLE}op = [3]", "it is a list of names"),
    "no op": (f"{TABLE}op = []", "it is a list in which nothing is empty"),
    "empty op": (f'{TABLE}op = ""', "it is a list in which nothing is empty"),
    "no layers": (f"{TABLE}layers = []", "it is a list in which nothing is empty"),
    "layer as number": (f"{TABLE}layers = 3", "layers:3; it is a list"),
    "layer as float": (f"{TABLE}layers = [1.0]", "a layer is a number or a range"),
    "layer as truth": (f"{TABLE}layers = [true]", "a layer is a number or a range"),
    "negative layer": (f"{TABLE}layers = [-1]", "a range is FIRST-LAST"),
    "two profiles": (f'{TABLE}profile = ["linear"]', "it is one name"),
    "table as value": (f"{TABLE}key = {{a = 1}}", "it is one name"),
    "date as value": (f"{TABLE}seed = 2020-01-01", "a seed is an integer >= 0"),
    "seed as text": (f'{TABLE}seed = "3"', "a seed is an integer >= 0"),
    "two places": (f'{TABLE}op = "linear"\nscope = "all"', "op and scope in one noise specification"),
    "second table": (f"{TABLE}{TABLE}rate = 2", "table 2: rate 2 of spike"),
    "twice": (f'{TABLE}{TABLE}op = "linear"', "it is given twice"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named_with_its_file(write, kind):
    content, words = WRONG[kind]
    path = write(content)
    with pytest.raises(NoiseSpecError) as caught:
        load_noises(path)
    text = str(caught.value)
    assert words in text
    assert str(path) in text
    assert "\n" not in text


def test_what_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(NoiseSpecError, match="it cannot be read") as caught:
            load_noises(path)
        assert str(path) in str(caught.value)


def test_what_no_file_may_hold_is_not_written():
    with pytest.raises(NoiseSpecError, match="at least one"):
        dump_noises(())
    with pytest.raises(NoiseSpecError, match="given twice"):
        dump_noises((NoiseSpec(), NoiseSpec()))
