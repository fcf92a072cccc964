"""An error model of another distribution: parsed, evaluated, audited and replayed as those of the package are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError, NoiseSpecError
from harness.record import CERTIFIED, Certificate
from harness.runs.loaded import load_run
from harness.spec import ERROR_GROUP, ERROR_MODELS, EvalSpec, parse_noise
from harness.spec.errors import error_names
from suites.distributions import write_distribution

pytestmark = pytest.mark.contract
CODE = '''
from dataclasses import dataclass

import torch

from harness.noise.replay import draws
from harness.numerics.keyed_random import below
from harness.spec import ErrorModel


@dataclass(frozen=True)
class SignFlip(ErrorModel):
    """-y with probability ``rate``."""

    rate: float | None = None

    name = "sign_flip"
    formula = "-y where u < rate, else y"
    expected = "2 in a share rate of the elements"
    strength = "rate"
    computed_by = "flips:computed"
    replayed_by = "flips:replayed"

    def __post_init__(self):
        self._number("rate", 0, 1, "a rate is a fraction in [0, 1]")

    def expected_share(self, level):
        return level


def computed(model, x, key, rate):
    return torch.where(below(*key, rate), -x.float(), x.float())


def replayed(model, x, rows, columns, rate):
    return torch.where(draws.below(rows, columns, rate), -x.float(), x.float())


@dataclass(frozen=True)
class Silent(SignFlip):
    name = "silent"
    replayed_by = ""


@dataclass(frozen=True)
class Formless(SignFlip):
    name = "formless"
    computed_by = ""
'''
POINTS = {
    "sign_flip": "SignFlip",
    "silent": "Silent",
    "formless": "Formless",
    "misnamed": "SignFlip",
    "no_class": "draws",
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts the distribution on the path, with its code as it is given."""

    def put(code: str) -> None:
        points = {ERROR_GROUP: {name: f"flips:{target}" for name, target in POINTS.items()}}
        monkeypatch.delitem(sys.modules, "flips", raising=False)
        monkeypatch.syspath_prepend(str(write_distribution(tmp_path / "site", "flips", points, flips=code)))

    return put


@pytest.fixture
def certificate(two_layers: Path, tmp_path: Path) -> Callable[[], Certificate]:
    """What four items at 0 and 2 % of the noise certify."""

    def certify() -> Certificate:
        noise = parse_noise("sign_flip @ op:linear")
        spec = EvalSpec(
            *("arith", None, 4),
            **{"levels": (0.0, 0.02), "noise_seeds": 1, "noise": noise},
            **{"max_new_tokens": 6, "positive_control": False},
        )
        evaluate(prepare(two_layers, spec, "cpu"), tmp_path / "run")
        run = load_run(tmp_path / "run")
        assert (run.arm.key["noise"], run.manifest.code["error model"]) == ("sign_flip @ op:linear", "1.0")
        return run.arm.certificate

    return certify


def test_it_is_evaluated_audited_and_replayed(
    install: Callable[[str], None], certificate: Callable[[], Certificate]
) -> None:
    install(CODE)
    assert error_names() == (*ERROR_MODELS, *sorted(POINTS))
    assert str(parse_noise("sign_flip(0.25) @ op:linear").error) == "sign_flip(0.25)"
    found = certificate()
    assert (found.status, [level.problems for level in found.levels]) == (CERTIFIED, [(), ()])
    noisy = next(replay for replay in found.replays if replay.level)
    assert (noisy.reason, noisy.problems, noisy.tokens > 0) == ("", (), True)


@pytest.mark.parametrize(
    ("honest", "other", "words"),
    [
        ("below(*key, rate), -x", "below(*key, rate / 2), -x", "of its elements, 0.02 was asked for"),
        ("below(*key, rate), -x.float()", "below(*key, rate), 0 * x.float()", "replay"),
    ],
)
def test_a_formula_that_does_something_else_is_invalid(
    install: Callable[[str], None], certificate: Callable[[], Certificate], honest: str, other: str, words: str
) -> None:
    assert honest in CODE
    install(CODE.replace(honest, other))
    found = certificate()
    problems = [*found.problems, *(problem for level in found.levels for problem in level.problems)]
    assert found.status != CERTIFIED and any(words in problem for problem in problems), problems


def test_what_is_no_error_model_is_refused_in_one_line(install: Callable[[str], None]) -> None:
    install(CODE)
    for name, why in (
        ("silent", "it has neither replayed_by nor not_replayed"),
        ("formless", "it has no computed_by"),
        ("misnamed", "it calls itself 'sign_flip'"),
        ("no_class", "it is no dataclass that derives from harness.spec.ErrorModel"),
    ):
        with pytest.raises(HarnessError, match=rf"error model '{name}' of flips 1\.0; it cannot be used \({why}"):
            parse_noise(f"{name} @ op:linear")
    with pytest.raises(NoiseSpecError, match=r"unknown error model 'sign_flop'; did you mean 'sign_flip'\?"):
        parse_noise("sign_flop @ op:linear")


def test_without_the_distribution_the_name_is_unknown() -> None:
    with pytest.raises(NoiseSpecError, match="unknown error model 'sign_flip'"):
        parse_noise("sign_flip @ op:linear")
