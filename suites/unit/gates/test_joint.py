"""Answers and distributions under one policy: what decides, what may not be put together, and how alarms are held."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.calibration.distributions import CHANGE, DistributionCase, Pool, side
from harness.exceptions import HarnessError
from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, GatePolicy, gate
from harness.gates.families import judge_levels
from harness.gates.joint import Sides, decided_alone, gate_both
from harness.gates.requirements import Requirement
from harness.gates.tasks import gate_tasks
from harness.pytest_plugin.evaluations import policy_of
from harness.record import ControlResult, Origin, digests_of
from harness.testing.arms import make_arm, make_certificate

pytestmark = pytest.mark.unit

LEVELS = (0.0, 0.05)
ORIGIN = Origin("w" * 64, "s" * 64)
COMPUTED = {"engine": "transformers", "noise": "n", "quantization": "none", "dtype": "float32"}
POLICY = GatePolicy(margin=0.2, kl_margin=0.5, bootstrap_resamples=0)
POOL = Pool.of(DistributionCase("", 64, CHANGE))


def arm(right, label="new", levels=LEVELS):
    """An arm of 64 items of which ``right`` are right at every level."""
    evidence = replace(make_certificate(list(levels)), control=ControlResult(1.0, 2, 2, 0, 2))
    found = make_arm({level: [1] * right + [0] * (64 - right) for level in levels}, label, {**COMPUTED, "task": "x"})
    named = {level: {f"i{int(item[1:])}": row for item, row in rows.items()} for level, rows in found.outcomes.items()}
    return replace(found, outcomes=named, certificate=evidence, origin=ORIGIN)


def sides(seed=0, levels=LEVELS, n=64, same=False):
    """Distributions of ``n`` items drawn from the pool; the ``same`` ones on both sides where nothing moved."""
    rng = np.random.default_rng(seed)
    rows = {level: rng.integers(0, len(POOL.pairs), n) for level in levels}
    key = {**COMPUTED, "task": "answers"}
    found = [
        side(name, {level: [POOL.pairs[row][1 if same else place] for row in own] for level, own in rows.items()}, key)
        for place, name in enumerate(("new", "old"))
    ]
    return Sides(*(replace(each, arm=replace(each.arm, origin=ORIGIN)) for each in found))


def judged(right, kl_margin=None, distributions=None, **rules):
    policy = replace(POLICY, **({} if kl_margin is None else {"kl_margin": kl_margin}), **rules)
    return gate_both((arm(right), arm(60, "old")), distributions or sides(), policy)


@pytest.mark.parametrize(
    ("right", "kl_margin", "halves", "by"),
    [
        (60, 2.0, (PASS, PASS), "both halves"),
        (60, 0.002, (PASS, FAIL), "the distributions"),
        (20, 2.0, (FAIL, PASS), "the answers"),
        (20, 0.002, (FAIL, FAIL), "both halves"),
        (48, 2.0, (INCONCLUSIVE, PASS), "the answers"),
    ],
)
def test_the_worse_half_decides_and_is_named(right, kl_margin, halves, by):
    found = judged(right, kl_margin)
    assert tuple(found.halves.values()) == halves
    assert found.verdict == (FAIL if FAIL in halves else next((each for each in halves if each != PASS), PASS))
    assert f"decided by {by} (answers {halves[0]}, distributions {halves[1]})" in found.reasons[0]
    told = found.to_json()
    assert (told["verdict"], told["divergence"]["verdict"]) == (found.verdict, halves[1])
    assert "4 requirements, each a hypothesis; both halves must pass" in found.family


def test_nothing_that_looks_at_answers_alone_takes_rules_on_distributions():
    """A PASS on the half that was there would be none."""
    ours, theirs = arm(60), arm(60, "old")
    with pytest.raises(HarnessError, match=r"^kl_margin 0.5 of answers alone; .*--divergences"):
        gate(ours, theirs, POLICY)
    with pytest.raises(HarnessError, match=r"^kl_margin 0\.5 with several tasks"):
        gate_tasks({"x": (ours, theirs)}, POLICY)
    given = dict.fromkeys(("policy", "margin", "min_retention", "across", "early_stop"))
    assert policy_of(given) == GatePolicy()


def test_a_policy_file_with_a_margin_in_nats_is_refused_in_pytest(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("[policy]\nkl_margin = 0.02\n")
    with pytest.raises(HarnessError, match=r"^kl_margin 0.02 in pytest; .*harness gate"):
        policy_of({"policy": path, **dict.fromkeys(("margin", "min_retention", "across", "early_stop"))})


def changed(which, **changes):
    """Both sides, with the arm of one changed."""
    found = sides(same=True)
    own = getattr(found, which)
    return replace(found, **{which: replace(own, arm=replace(own.arm, **changes))})


@pytest.mark.parametrize(
    ("turned", "dtype", "verdict"),
    [
        (0, "float32", PASS),
        (3, "float32", PASS),
        (8, "float32", INVALID),
        (8, "bfloat16", PASS),
        (60, "bfloat16", INVALID),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_texts_that_are_not_the_answers_of_the_baseline_are_invalid(turned, dtype, verdict, ended):
    """Few may be turned by near ties; an answer is told with what ended it, and as it was cut without."""
    key = {**COMPUTED, "dtype": dtype}
    found, theirs = sides(same=True), arm(60, "old")
    told = {f"i{place}": (7, place, 3) for place in range(64)}
    given = {item: {0: digests_of(tokens)[ended]} for item, tokens in told.items()}
    theirs = replace(theirs, key={**key, "task": "x"}, origin=replace(ORIGIN, answers={0.0: given}))
    scored = {item: digests_of((9,) if place < turned else tokens) for place, (item, tokens) in enumerate(told.items())}
    both = [replace(each, arm=replace(each.arm, key={**key, "task": "answers"})) for each in vars(found).values()]
    lying = Sides(both[0], replace(both[1], answers=scored))
    ours = replace(arm(60), key={**key, "task": "x"}, origin=ORIGIN)
    result = gate_both((ours, theirs), lying, replace(POLICY, kl_margin=2.0))
    assert result.verdict == verdict
    said = f"the reference is not of the baseline's answers: {turned} of 64 differ, near ties explain at most"
    assert (said in result.to_json()["divergence"]["levels"][0]["reasons"][0]) is (verdict == INVALID)


@pytest.mark.parametrize(
    ("distributions", "words"),
    [
        (changed("candidate", origin=Origin("v" * 64, "s" * 64)), "candidate: its answers and its distributions are"),
        (changed("reference", origin=Origin("w" * 64, "t" * 64)), "baseline: its answers and its distributions are"),
        (changed("candidate", origin=Origin()), "not known to be of one checkpoint"),
        (
            changed("candidate", key={**COMPUTED, "task": "answers", "quantization": "weights=mxfp4"}),
            "candidate: its answers and its distributions differ in quantization: 'none' and 'weights=mxfp4'",
        ),
        (changed("reference", key={**COMPUTED, "task": "answers", "noise": "m"}), "baseline: its answers and its"),
        (sides(n=66, same=True), "the reference has answers to 2 items that the baseline does not have"),
        (sides(levels=(0.0,), same=True), "the reference has no distributions at this level"),
    ],
)
def test_halves_that_do_not_belong_together_are_invalid(distributions, words):
    found = judged(60, 2.0, distributions)
    assert (found.verdict, found.halves["answers"], found.exit_code) == (INVALID, PASS, 4)
    assert found.divergence is not None
    assert words in " ".join(reason for level in found.divergence.levels for reason in level.reasons)


def test_few_items_of_distributions_never_pass_however_many_answers_do():
    assert judged(60, 2.0, sides(n=58, same=True)).halves == {"answers": PASS, "distributions": INCONCLUSIVE}


def test_alarms_are_held_over_both_halves():
    """What would FAIL alone is one alarm of two, and stays open."""

    def one(margin):
        found = judged(60, float(margin), sides(levels=(0.0,)), levels=(0.0,)).divergence
        assert found is not None
        return found.levels[0]

    low = one(0.5).divergence.low
    level = next(level for level in map(one, low * np.linspace(1, 0.5, 200)) if 0.03 < level.p_fail < 0.05)
    assert level.verdict == INCONCLUSIVE
    assert "taken alone this level would FAIL, adjusted over all levels it is INCONCLUSIVE" in level.reasons[0]


def test_margins_of_levels_in_nats_and_levels_that_are_not_judged():
    found = judged(60, 2.0, kl_margins=((0.05, 0.002),))
    assert [level.verdict for level in found.divergence.levels] == [PASS, FAIL]
    with pytest.raises(HarnessError, match=r"kl_margin_at of level 0\.2"):
        judged(60, 2.0, kl_margins=((0.2, 0.002),))
    with pytest.raises(HarnessError, match="kl_margin_at without kl_margin"):
        GatePolicy(kl_margins=((0.05, 0.002),))
    with pytest.raises(HarnessError, match=r"kl_margin -1\.0; a margin in nats a token"):
        GatePolicy(kl_margin=-1.0)
    with pytest.raises(HarnessError, match="early_stop 1 with kl_margin"):
        GatePolicy(kl_margin=1.0, early_stop=1.0)


def test_distributions_that_decide_need_no_answers_and_others_do():
    early = replace(POLICY, early_stop=0.5)
    found = decided_alone(arm(60, "old"), sides(), replace(early, kl_margin=0.002))
    assert (found.verdict, found.exit_code, found.levels) == (FAIL, 1, ())
    assert found.halves == {"answers": "not run", "distributions": FAIL}
    assert "none was generated" in found.notes[0] and found.divergence.policy.alpha == 0.025
    for margin in (2.0, 0.02):
        assert decided_alone(arm(60, "old"), sides(), replace(early, kl_margin=margin)) is None
    broken = changed("candidate", key={**COMPUTED, "task": "answers", "noise": "m"})
    assert decided_alone(arm(60, "old"), broken, replace(early, kl_margin=0.002)) is None


def test_what_the_distributions_decide_first_no_answer_could_change():
    """Holm's rejections only grow as other p-values fall: whatever the answers are, the early FAIL stands."""
    rng = np.random.default_rng(1)
    stopped = 0
    for _ in range(500):
        p = 10 ** rng.uniform(-4, 0, 6)
        requirements = [Requirement(FAIL if each <= 0.05 else PASS, "", p_fail=float(each)) for each in p]
        half = {("distributions", level): (requirements[level],) for level in range(3)}
        whole = half | {("", level): (requirements[3 + level],) for level in range(3)}
        first = {key for key, (verdict, _) in judge_levels("all_must_pass", half, 0.05, 3).items() if verdict == FAIL}
        last = {key for key, (verdict, _) in judge_levels("all_must_pass", whole, 0.05).items() if verdict == FAIL}
        assert first <= last
        stopped += bool(first)
    assert 100 < stopped < 500
