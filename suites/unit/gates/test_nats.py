"""A verdict on what texts lose: ratios of sums over documents, and nothing is judged without all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, GatePolicy, GateResult, gate
from harness.gates.nats import nats_requirement
from harness.gates.tasks import gate_tasks
from harness.record import Arm, Origin
from harness.stats import SkewedMean
from harness.testing.arms import TEXT_KEY, make_arm, make_text_arm

pytestmark = pytest.mark.unit
Refusal = Callable[..., str]
MARGIN = GatePolicy(nats_margin=0.05)
N = 100
SIZES = [40 + 7 * (place % 20) for place in range(N)]
BEFORE = [-3.0 * size for size in SIZES]


def lowered(lost: float, spread: float = 0.02, seed: int = 1, before: Sequence[float] = BEFORE) -> list[float]:
    """``before`` with ``lost`` nats a token less, give or take ``spread`` by document."""
    rng = np.random.default_rng(seed)
    return [nats - size * (lost + spread * float(rng.normal())) for nats, size in zip(before, SIZES, strict=True)]


def texts(clean: Sequence[Any], **other: Any) -> Arm:
    return make_text_arm({0.0: clean}, SIZES, **other)


def judged(clean: Sequence[Any], policy: GatePolicy = MARGIN, **other: Any) -> GateResult:
    return gate(texts(clean, **other), texts(BEFORE, **other), policy)


def words(result: GateResult, index: int = 0) -> str:
    return "; ".join(result.levels[index].reasons)


@pytest.mark.parametrize(
    ("lost", "verdict"), [(0.0, PASS), (0.02, PASS), (0.05, INCONCLUSIVE), (0.08, FAIL), (-1, PASS)]
)
def test_what_is_lost_decides(lost: float, verdict: str) -> None:
    (level,) = judged(lowered(lost)).levels
    assert level.verdict == verdict and level.nats is not None
    assert level.nats.lost.estimate == pytest.approx(lost, abs=0.01)
    assert level.nats.candidate - level.nats.baseline == pytest.approx(level.nats.lost.estimate)
    assert (level.n, level.nats.tokens, level.accuracy, level.difference) == (N, sum(SIZES), None, None)


def test_the_estimate_is_what_all_lost_by_all_of_their_tokens() -> None:
    """A document counts by its length: a loss of the longest ones is not averaged away by short ones."""
    longest = [size == max(SIZES) for size in SIZES]
    lost = [nats - size * 0.5 * far for nats, size, far in zip(BEFORE, SIZES, longest, strict=True)]
    found = judged(lost).levels[0].nats
    assert found is not None
    share = sum(size for size, far in zip(SIZES, longest, strict=True) if far) / sum(SIZES)
    assert found.lost.estimate == pytest.approx(0.5 * share) and share > 1.5 * np.mean(longest)


def test_nothing_lost_passes_and_less_than_nothing_too() -> None:
    assert judged(BEFORE).verdict == PASS
    assert "+0 nats a token are lost" in words(judged(BEFORE))


@pytest.mark.parametrize(
    ("clean", "noisy", "level", "verdict"),
    [
        (-550, -550, 0.1, INVALID),  # lost already what noise takes: it has nothing left to lose
        (-370, -550, 0.1, INVALID),
        (None, -550, 0.1, INVALID),  # nobody knows
        (math.nan, -550, 0.1, INVALID),
        (-150, -550, 0.1, PASS),
        (-165, -550, 0.1, PASS),  # within what the policy leaves level 0
        (-550, -950, 0.1, FAIL),  # a wreck that reads noise worse is still told
        (-150, -151, 0.01, PASS),  # noise takes next to nothing
        (-152, -151, 0.01, PASS),
    ],
)
def test_a_wreck_does_not_pass_where_noise_wrecks_the_baseline_too(clean, noisy, level, verdict) -> None:
    """A policy may leave level 0 out: then the other levels look at it."""
    before = make_text_arm({0.0: [-150.0] * N, 0.01: [-151.0] * N, 0.1: [-550.0] * N}, [50] * N)
    levels = {level: [float(noisy)] * N} | ({} if clean is None else {0.0: [float(clean)] * N})
    rules = GatePolicy(nats_margin=0.5, levels=(level,))
    found = gate(make_text_arm(levels, [50] * N), before, rules)
    assert found.verdict == verdict
    if verdict == INVALID:
        said = "level 0 cannot be paired" if clean is None or math.isnan(clean) else "without noise the candidate has"
        assert words(found).startswith(said) and found.exit_code == 4


@pytest.mark.parametrize("role", ["candidate", "baseline"])
def test_a_probability_above_one_is_no_evidence(role: str) -> None:
    odd, sound = texts([5.0, *BEFORE[1:]]), texts(BEFORE)
    assert judged([1e-5, *BEFORE[1:]]).verdict == PASS, "the last bits of a certain token"
    found = gate(*((odd, sound) if role == "candidate" else (sound, odd)), MARGIN)
    assert found.verdict == INVALID and f"{role}: 1 of 100 documents have a probability above 1 (i0000)" in words(found)


def test_few_documents_decide_nothing_but_a_wreck() -> None:
    for count, lost, verdict in ((79, 0.0, INCONCLUSIVE), (80, 0.0, PASS), (20, 0.3, INCONCLUSIVE), (20, 2.5, FAIL)):
        before = make_text_arm({0.0: [-300.0] * count}, [100] * count)
        after = make_text_arm({0.0: [-300.0 - 100 * lost] * count}, [100] * count)
        result = gate(after, before, MARGIN)
        assert result.verdict == verdict, (count, lost)
        assert ("80 decide" in words(result)) is (verdict == INCONCLUSIVE)
    assert gate(make_text_arm({0.0: [-900.0]}, [100]), make_text_arm({0.0: [-300.0]}, [100]), MARGIN).exit_code == 3


def test_one_long_document_among_many_short_ones_is_few() -> None:
    sizes = [10] * 99 + [5000]
    arm = make_text_arm({0.0: [-3.0 * size for size in sizes]}, sizes)
    result = gate(arm, arm, MARGIN)
    assert result.verdict == INCONCLUSIVE and "count as 1.4 of equal length" in words(result)


@pytest.mark.parametrize("value", [math.nan, -math.inf, "error", None])
@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_a_document_without_a_log_likelihood_is_never_left_out(value: Any, side: str) -> None:
    """The very documents that broke are the ones that would be missed."""
    broken = [*BEFORE[:-1], value]
    ours, theirs = (broken, BEFORE) if side == "candidate" else (BEFORE, broken)
    result = gate(texts(ours), texts(theirs), MARGIN)
    assert result.verdict == INVALID and f"{side}: 1 of 100 documents" in words(result)
    assert ("missing" in words(result)) is (value is None)
    assert result.levels[0].unscored[side] == {
        "unparsed": int(isinstance(value, float)),
        "truncated": 0,
        "error": int(value == "error"),
        "missing": int(value is None),
    }


def test_a_seed_that_is_missing_is_not_averaged_over() -> None:
    whole = make_text_arm({0.0: BEFORE, 0.1: [[nats, nats] for nats in BEFORE]}, SIZES)
    torn = make_text_arm({0.0: BEFORE, 0.1: [[BEFORE[0], None], *([nats, nats] for nats in BEFORE[1:])]}, SIZES)
    found = gate(torn, whole, MARGIN)
    assert [level.verdict for level in found.levels] == [PASS, INVALID]


def test_seeds_of_a_document_are_one_value() -> None:
    """Losses that cancel between the seeds are none, and no seed counts as a document."""
    whole = make_text_arm({0.0: BEFORE, 0.1: [[nats, nats] for nats in BEFORE]}, SIZES)
    swung = make_text_arm({0.0: BEFORE, 0.1: [[nats - 40, nats + 40] for nats in BEFORE]}, SIZES)
    level = gate(swung, whole, MARGIN).levels[1]
    assert level.verdict == PASS and level.n == N and level.seeds == (0, 1)
    assert level.nats is not None and level.nats.lost.high == pytest.approx(0)


def test_clusters_move_together() -> None:
    rng = np.random.default_rng(3)
    names = {f"i{place:04d}": f"c{place % 70}" for place in range(N)}
    shift = rng.normal(0.02, 0.05, 70)
    lost = [
        nats - size * float(shift[place % 70]) for place, (nats, size) in enumerate(zip(BEFORE, SIZES, strict=True))
    ]
    alone, together = judged(lost).levels[0].nats, judged(lost, clusters=names).levels[0].nats
    assert alone is not None and together is not None and together.clusters == 70
    assert together.lost.estimate == pytest.approx(alone.lost.estimate)
    assert together.lost.high > alone.lost.high


def test_other_tokens_are_another_tokenizer() -> None:
    other = make_text_arm({0.0: BEFORE}, [size + (place == 3) for place, size in enumerate(SIZES)])
    assert "1 of 100 documents have other tokens" in words(gate(other, texts(BEFORE), MARGIN))


def test_other_keys_and_a_run_that_is_no_text_are_invalid() -> None:
    other = gate(texts(BEFORE, key={**TEXT_KEY, "dataset": "d2"}), texts(BEFORE), MARGIN)
    assert other.verdict == INVALID and "dataset" in words(other)
    assert gate(make_arm({0.0: [1] * N}), texts(BEFORE), MARGIN).verdict == INVALID
    assert gate(texts(BEFORE), make_arm({0.0: [1] * N})).verdict == INVALID


def test_shared_draws_decide_nothing() -> None:
    key = {**TEXT_KEY, "noise": "relative_gaussian key:shared"}
    arm = make_text_arm({0.0: BEFORE, 0.1: [[nats] * 5 for nats in BEFORE]}, SIZES, key=key)
    found = gate(arm, arm, MARGIN)
    assert [level.verdict for level in found.levels] == [PASS, INCONCLUSIVE]
    assert "share the draws" in words(found, 1)


def test_the_same_checkpoint_with_other_numbers_is_invalid() -> None:
    key = {**TEXT_KEY, "dtype": "float32"}
    origin = Origin(weights="w", settings="s")
    before = replace(texts(BEFORE, key=key), origin=origin)
    near, far = (replace(texts([BEFORE[0] - apart, *BEFORE[1:]], key=key), origin=origin) for apart in (1e-3, 1e-1))
    assert gate(near, before, MARGIN).verdict == PASS
    assert "the same checkpoint gave other log-likelihoods: 1 of 100" in words(gate(far, before, MARGIN))
    other = replace(far, origin=replace(origin, weights="v"))
    assert gate(other, before, MARGIN).verdict == PASS


def test_each_level_has_its_margin_and_a_fixed_sequence_holds() -> None:
    before = make_text_arm({0.0: BEFORE, 0.05: BEFORE, 0.1: BEFORE}, SIZES)
    after = make_text_arm({0.0: lowered(0.05), 0.05: lowered(0.02), 0.1: lowered(0.15, seed=2)}, SIZES)
    found = gate(after, before, GatePolicy(nats_margin=0.05, nats_margins=((0.1, 0.3),)))
    assert [level.verdict for level in found.levels] == [INCONCLUSIVE] * 3
    assert "in a fixed sequence" in words(found, 1) and "below the margin 0.3" in words(found, 2)
    failing = gate(after, before, GatePolicy(nats_margin=0.05, family="holm"))
    assert [level.verdict for level in failing.levels] == [INCONCLUSIVE, PASS, FAIL]
    assert "Holm" in words(failing, 2)


def test_rules_that_texts_do_not_have_are_refused(refusal: Refusal) -> None:
    arm = texts(BEFORE)
    assert "give --nats-margin" in refusal(gate, arm, arm, GatePolicy())
    assert "give --nats-margin" in refusal(gate, arm, arm, GatePolicy(nats_margins=((0.1, 0.05),), levels=(0.0, 0.1)))
    assert "retention" in refusal(gate, arm, arm, GatePolicy(nats_margin=0.05, min_retention=0.5))
    assert "early_stop" in refusal(gate, arm, arm, GatePolicy(nats_margin=0.05, early_stop=0.5))
    assert "nothing would read it" in refusal(gate, make_arm({0.0: [1] * 9}), make_arm({0.0: [1] * 9}), MARGIN)


def test_tasks_of_both_kinds_are_one_family() -> None:
    right = make_arm({0.0: [1] * 90 + [0] * 10}, key={"task": "arith", "scorer": "strict"})
    wrong = make_arm({0.0: [1] * 40 + [0] * 60}, key={"task": "arith", "scorer": "strict"})
    policy = GatePolicy(margin=0.1, nats_margin=0.05, bootstrap_resamples=0)
    for ours, lost, verdict in ((right, 0.0, PASS), (right, 0.2, FAIL), (wrong, 0.0, FAIL)):
        arms = {"arith": (ours, right), "perplexity": (texts(lowered(lost)), texts(BEFORE))}
        found = gate_tasks(arms, policy)
        assert found.verdict == verdict and "2 tasks" in found.family
        assert "2 requirements" in found.family


def test_a_wrong_fail_is_held_over_tasks() -> None:
    """p 0.03 FAILs alone and not beside another requirement."""
    rng = np.random.default_rng(0)
    for seed in range(400):
        lost = lowered(0.05, 0.2, seed)
        alone = judged(lost).levels[0]
        requirement = alone.tests.measured[0] if alone.tests else None
        if requirement is not None and 0.026 < requirement.p_fail < 0.05:
            break
    else:
        pytest.fail(f"no sample of {rng} lies there")
    assert alone.verdict == FAIL
    right = make_arm({0.0: [1] * 90 + [0] * 10}, key={"task": "arith", "scorer": "strict"})
    arms = {"arith": (right, right), "perplexity": (texts(lost), texts(BEFORE))}
    found = gate_tasks(arms, replace(MARGIN, margin=0.1, bootstrap_resamples=0)).results["perplexity"]
    assert found.verdict == INCONCLUSIVE and "taken alone this level would FAIL" in words(found)


def test_the_json_of_a_verdict_is_strict_and_holds_the_loss() -> None:
    found = json.loads(json.dumps(judged(lowered(0.02)).to_json(), allow_nan=False))
    nats = found["levels"][0]["nats"]
    assert nats["margin"] == 0.05 and nats["clusters"] == N and 0.01 < nats["lost"]["estimate"] < 0.03
    assert "nats" not in gate(make_arm({0.0: [1] * 9}), make_arm({0.0: [1] * 9})).to_json()["levels"][0]


def test_items_that_would_decide_do() -> None:
    """About as many documents of the kind of an INCONCLUSIVE level are enough for a decision at its estimate."""
    undecided = judged(lowered(0.045, 0.2)).levels[0]
    assert undecided.verdict == INCONCLUSIVE and undecided.items_needed is not None
    copies = math.ceil(undecided.items_needed / N)
    lost = lowered(0.045, 0.2) * copies
    before = make_text_arm({0.0: BEFORE * copies}, SIZES * copies)
    assert gate(make_text_arm({0.0: lost}, SIZES * copies), before, MARGIN).verdict in (PASS, FAIL)


def test_p_and_interval_say_the_same() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200):
        sizes = rng.integers(20, 90, 120)
        mean = SkewedMean.ratio(sizes * (0.05 + rng.gamma(0.6, 0.05, 120) - 0.03), sizes)
        found = nats_requirement(mean, 3.0, 0.05, 0.05)
        interval = mean.interval(0.05)
        expected = PASS if interval.high < 0.05 else FAIL if interval.low > 0.05 else INCONCLUSIVE
        assert found.verdict == expected
