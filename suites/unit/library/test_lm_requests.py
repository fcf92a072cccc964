"""Requests of lm-eval: answers depend on their content alone, and there is none without evidence."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.exceptions import EvidenceError, HarnessError, NotComparableError
from harness.library import lm_requests
from harness.library.lm_requests import Asking, Request, generations, loglikelihoods, proven, rolling
from harness.record import EXTERNAL
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit

PAIRS = [Request(("Tom has 3", f" {word}"), ("task", number // 2)) for number, word in enumerate("123456")]
LOOSE = [Request(("", "Tom has 3 pens.")), Request(("Tom has", " 3 pens."))]


@pytest.fixture
def asking(two_layers: Path, tmp_path: Path) -> Asking:
    return Asking(two_layers, EvalSpec("requests", items=None, levels=(0.0, 0.05), noise_seeds=1), tmp_path / "o", 0.05)


def test_answers_do_not_depend_on_order_company_or_repetition(asking: Asking) -> None:
    there = loglikelihoods(asking, [*PAIRS, *LOOSE])
    assert loglikelihoods(asking, [*LOOSE, *PAIRS[::-1], *PAIRS]).values == (
        *there.values[6:],
        *there.values[5::-1],
        *there.values[:6],
    )
    assert len(list(asking.out.iterdir())) == 2, "the same requests have the same folder"
    alone = loglikelihoods(asking, [PAIRS[1], PAIRS[0]])
    assert alone.runs != there.runs
    for one, other in zip(alone.values, there.values[1::-1], strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-4) and one[1] == other[1]


def test_noise_is_in_the_numbers_and_the_clean_ones_stand_beside(asking: Asking) -> None:
    noisy = loglikelihoods(asking, PAIRS)
    clean = loglikelihoods(replace(asking, level=0.0), PAIRS)
    assert clean.runs == noisy.runs
    assert all(abs(one[0] - other[0]) > 1e-3 for one, other in zip(noisy.values, clean.values, strict=True))


def test_a_choice_among_what_is_not_finite_is_no_answer(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all choices are NaN lm-eval takes the first, which in minimal pairs is the right one."""
    honest = lm_requests._scored
    monkeypatch.setattr(
        lm_requests, "_scored", lambda *given: [replace(each, nats=None, greedy=True) for each in honest(*given)]
    )
    assert loglikelihoods(asking, LOOSE).values == ((-math.inf, False), (-math.inf, False))
    with pytest.raises(EvidenceError, match="3 of 5 documents have continuations without a finite log-likelihood"):
        loglikelihoods(asking, [*LOOSE, *PAIRS])


def test_texts_and_answers(asking: Asking) -> None:
    nats = rolling(asking, [Request(("Tom has 3 pens.",)), Request(("Ann has 4.",)), Request(("Tom has 3 pens.",))])
    assert nats.values[0] == nats.values[2] != nats.values[1]
    assert all(value < 0 and math.isfinite(value) for value in nats.values)
    asked = [Request((f"Tom has {n} pens.", {"until": ["a"], "max_gen_toks": 4 + n % 2})) for n in range(4)]
    found = generations(asking, [*asked, asked[0]])
    assert len(found.runs) == 2, "one for each token limit"
    assert found.values[4] == found.values[0] and not any("a" in text for text in found.values)


def test_nothing_asked_is_nothing_run(asking: Asking) -> None:
    assert loglikelihoods(asking, []).runs == rolling(asking, []).runs == generations(asking, []).runs == ()
    assert not asking.out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", {"do_sample": True, "temperature": 0.7}), "its answers are sampled"),
        (("x", {"num_beams": 3}), "num_beams: 3 is not done here"),
        ((" ", {}), "a prompt, texts that end it and a number of tokens"),
        (("x " * 3000, {"until": ["a"]}), "a prompt of 6000 tokens"),
    ],
)
def test_what_cannot_be_asked_leaves_nothing_behind(asking: Asking, arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        generations(asking, [Request(arguments)])
    assert not asking.out.exists() or not list(asking.out.iterdir())


@pytest.mark.parametrize(("change", "words"), [({"level": 0.1}, "the levels evaluated are"), ({"seed": 1}, "seed 1")])
def test_levels_and_seeds_are_those_of_the_specification(asking: Asking, change: dict[str, float], words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        replace(asking, **change)


def test_no_number_without_evidence(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine without noise gives records; lm-eval gets none of them."""
    from harness.noise.session import NoiseSession

    with monkeypatch.context() as silent:
        silent.setattr(NoiseSession, "inject", lambda self, site, part, y, frame: y)
        with pytest.raises(EvidenceError, match="no evidence, no number"):
            loglikelihoods(asking, PAIRS)
    with pytest.raises(EvidenceError, match="no evidence, no number"):
        loglikelihoods(asking, PAIRS)  # nor later, from what is stored


def test_neither_a_level_nor_the_run_may_lack_it(asking: Asking) -> None:
    (path,) = loglikelihoods(asking, PAIRS).runs
    run = load_run(path)
    assert proven(run, 0.05) is run
    certificate = run.arm.certificate
    for broken in (
        replace(certificate, status=EXTERNAL),
        replace(certificate, problems=("edited",)),
        replace(certificate, uncontrolled=True),
        replace(certificate, levels=certificate.levels[:1]),
        replace(certificate, levels=(replace(certificate.levels[0], problems=("not clean",)), certificate.levels[1])),
    ):
        with pytest.raises(EvidenceError):
            proven(replace(run, arm=replace(run.arm, certificate=broken)), 0.05)
    with pytest.raises(NotComparableError):
        proven(replace(run, results=run.results[1:]), 0.05)


def test_the_task_is_named_after_the_content(asking: Asking) -> None:
    (path,) = loglikelihoods(asking, PAIRS).runs
    assert path.name.startswith("requests-") and path.with_name(f"{path.name}.jsonl").is_file()
    assert lm_requests._kind('[["a"], 3]') == "prompt"
