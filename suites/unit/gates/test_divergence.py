"""The gate on distributions: its verdicts, its error rates at the margin, and what makes it INVALID."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.distributions import Distribution
from harness.exceptions import HarnessError
from harness.gates.divergence import LEAST_ITEMS, DivergencePolicy, Measured, divergence_gate
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID, PASS
from harness.record import CERTIFIED, Arm, Certificate, ControlResult, LevelCertificate, Outcome

pytestmark = pytest.mark.unit

KEY = {"task": "answers", "dataset": "d", "quantization": "none"}
LEVELS = (0.0, 0.05)


def two_tokens(probability):
    """Distributions (T,) over two tokens and a rest of 1e-9, the first with ``probability`` (T,)."""
    rest = 1e-9
    first = np.asarray(probability, float) * (1 - rest)
    logprobs = np.log(np.stack([first, 1 - rest - first], axis=1))
    return Distribution(
        np.arange(len(first), dtype=np.int32),
        np.tile(np.array([[5, 9]], np.int32), (len(first), 1)),
        logprobs.astype(np.float32),
        np.full(len(first), math.log(rest), np.float32),
        np.full(len(first), math.log(rest) - 3, np.float32),
        np.where(first > 0.5, 5, 9).astype(np.int32),
    )


def side(label, probabilities, **changes):
    """One side whose answers have the ``probabilities`` (items, T) of the right token, equal at all levels."""
    names = [(f"i{row}", level, 0) for level in LEVELS for row in range(len(probabilities))]
    kept = {name: two_tokens(probabilities[int(name[0][1:])]) for name in names}
    entries = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in LEVELS)
    arm = Arm(
        label,
        KEY,
        {level: {f"i{row}": {0: Outcome(1.0, "right")} for row in range(len(probabilities))} for level in LEVELS},
        Certificate(CERTIFIED, entries, ControlResult(1.0, 2, 2, 0, 2)),
    )
    return Measured(
        replace(arm, **changes), kept, {name: tuple(map(float, found.logprobs[:, 0])) for name, found in kept.items()}
    )


def gated(candidate, reference, margin=0.05, **policy):
    return divergence_gate(candidate, reference, DivergencePolicy(margin, **policy))


def moved(shift, items=64, places=4, seed=0):
    """(candidate, reference): probabilities around 0.8, the candidate's lower by about ``shift``."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.7, 0.9, (items, places))
    return side("new", base - shift * rng.uniform(0.5, 1.5, base.shape)), side("old", base)


def test_equal_sides_pass_and_say_what_was_measured():
    candidate, reference = moved(0.0)
    found = gated(candidate, reference)
    assert (found.verdict, found.exit_code) == (PASS, 0)
    level = found.levels[0]
    assert (level.items, level.tokens, level.seeds) == (64, 256, (0,))
    assert level.divergence.estimate == level.change.estimate == 0
    assert level.same.estimate == 1


def test_a_small_change_passes_a_large_one_fails_and_one_at_the_margin_is_left_open():
    assert gated(*moved(0.02)).verdict == PASS
    found = gated(*moved(0.4))
    assert (found.verdict, found.exit_code) == (FAIL, 1)
    assert all(level.change.high < 0 for level in found.levels)
    estimate = gated(*moved(0.2)).levels[0].divergence.estimate
    assert gated(*moved(0.2), margin=estimate).verdict == INCONCLUSIVE


def test_numbers_are_those_of_the_formula():
    candidate, reference = side("new", np.full((64, 3), 0.6)), side("old", np.full((64, 3), 0.8))
    level = gated(candidate, reference).levels[1]
    expected = 0.8 * math.log(0.8 / 0.6) + 0.2 * math.log(0.2 / 0.4)
    assert level.divergence.estimate == pytest.approx(expected, rel=1e-4)
    assert level.change.estimate == pytest.approx(math.log(0.6 / 0.8), rel=1e-4)


def test_few_items_never_pass():
    found = gated(*moved(0.0, items=LEAST_ITEMS - 1))
    assert found.verdict == INCONCLUSIVE
    assert "show too little of the tail" in found.levels[0].reasons[0]
    assert gated(*moved(0.4, items=20)).verdict == FAIL


def test_one_item_that_breaks_cannot_hide_in_the_mean():
    base = np.full((64, 4), 0.8)
    broken = base.copy()
    broken[7] = 1e-6
    found = gated(side("new", broken), side("old", base), margin=0.2)
    assert found.verdict != PASS
    assert "few items hold much of it" in found.levels[0].reasons[0]


@pytest.mark.parametrize("shape", [0.5, 1.0])
def test_wrong_verdicts_at_the_margin_keep_their_rate(shape):
    """Items whose divergences are gamma-distributed with a mean that is the margin: every PASS and FAIL is wrong."""
    rng, margin, wrong = np.random.default_rng(1), 0.05, {PASS: 0, FAIL: 0, INCONCLUSIVE: 0}
    grid = np.linspace(0.0, 0.7999, 4000)
    values = 0.8 * np.log(0.8 / (0.8 - grid)) + 0.2 * np.log(0.2 / (0.2 + grid))
    repetitions, reference = 150, side("old", np.full((64, 1), 0.8))
    for _ in range(repetitions):
        wanted = rng.gamma(shape, margin / shape, 64)
        shifts = np.interp(wanted, values, grid)
        wrong[divergence_gate(side("new", (0.8 - shifts)[:, None]), reference, DivergencePolicy(margin)).verdict] += 1
    most = 0.07 + 3 * math.sqrt(0.07 * 0.93 / repetitions)
    assert wrong[PASS] / repetitions <= most
    assert wrong[FAIL] / repetitions <= most


def invalid(candidate, reference, words, **policy):
    found = gated(candidate, reference, **policy)
    assert (found.verdict, found.exit_code) == (INVALID, 4)
    assert any(words in reason for level in found.levels for reason in level.reasons), found


def test_other_keys_are_invalid_unless_that_is_what_is_compared():
    candidate, reference = moved(0.0)
    other = replace(candidate, arm=replace(candidate.arm, key={**KEY, "quantization": "mxfp4"}))
    invalid(other, reference, "measurement keys differ in quantization")
    assert gated(other, reference, across="quantization").verdict == PASS
    assert "across quantization" in gated(other, reference, across="quantization").notes[0]


def test_no_evidence_no_verdict():
    candidate, reference = moved(0.0)
    broken = replace(candidate.arm.certificate, problems=("noise in the clean arm",))
    invalid(replace(candidate, arm=replace(candidate.arm, certificate=broken)), reference, "noise in the clean arm")
    unproven = replace(candidate.arm.certificate, control=None, uncontrolled=True)
    invalid(replace(candidate, arm=replace(candidate.arm, certificate=unproven)), reference, "no positive control")
    invalid(candidate, replace(reference, arm=replace(reference.arm, certificate=broken)), "reference: noise in")


def test_other_answers_seeds_or_tokens_are_invalid():
    candidate, reference = moved(0.0)
    fewer = {name: kept for name, kept in candidate.kept.items() if name[0] != "i3"}
    invalid(replace(candidate, kept=fewer), reference, "lacks 1 of the reference's 64 answers")
    seeded = {(item, level, seed + 1): kept for (item, level, seed), kept in candidate.kept.items()}
    invalid(replace(candidate, kept=seeded), reference, "lacks 64 of the reference's 64 answers, and has 64 others")
    name = ("i5", 0.0, 0)
    other = replace(candidate.kept[name], ids=candidate.kept[name].ids + 1)
    invalid(replace(candidate, kept={**candidate.kept, name: other}), reference, "keep different tokens")
    unknown = {**candidate.logprobs, name: (None,) * 4}
    invalid(replace(candidate, logprobs=unknown), reference, "is not finite")


def test_what_was_not_kept_may_not_carry_a_pass():
    candidate, reference = moved(0.0)
    wide = {name: replace(kept, rest=np.full(4, math.log(0.3), np.float32)) for name, kept in candidate.kept.items()}
    invalid(replace(candidate, kept=wide), replace(reference, kept=wide), "were not kept can hide")


def test_draws_that_all_items_share_are_no_sample_of_items():
    candidate, reference = moved(0.0)
    key = {**KEY, "noise": "relative_gaussian @ op:linear key:shared"}
    arms = [replace(each, arm=replace(each.arm, key=key)) for each in (candidate, reference)]
    invalid(*arms, "share the draws")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"margin": 0.0}, "--kl-margin 0.0; a margin in nats a token is finite and above 0"),
        ({"margin": math.nan}, "--kl-margin nan"),
        ({"margin": 0.1, "alpha": 0.7}, "alpha 0.7"),
        ({"margin": 0.1, "across": "dytpe"}, "did you mean 'dtype'"),
    ],
)
def test_rules_that_are_none_are_refused(given, words):
    with pytest.raises(HarnessError, match=words):
        DivergencePolicy(**given)
