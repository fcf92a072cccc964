"""Holm and Benjamini-Hochberg over the levels of a gate."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from statsmodels.stats.multitest import multipletests

from harness.exceptions import HarnessError
from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, GatePolicy, gate
from harness.gates.families import judge_levels
from harness.gates.policy import ALL_MUST_PASS, BENJAMINI_HOCHBERG, FAMILIES, HOLM
from harness.gates.requirements import Requirement
from harness.record import CERTIFIED, RIGHT, WRONG, Arm, Certificate, LevelCertificate, Outcome
from harness.reports.gate_page import gate_page
from harness.reports.render.markdown import markdown
from harness.reports.render.terminal import show
from harness.reports.run_page import run_page
from harness.stats import judge_family, tango_tails

pytestmark = pytest.mark.unit
ADJUSTING = (HOLM, BENJAMINI_HOCHBERG)
N = 400


def arm(levels: dict[float, Any], noise: str = "n", label: str = "arm") -> Arm:
    """``levels[level]`` is (items, seeds) or (items,) of 0, 1 and NaN (no score)."""
    outcomes = {
        level: {
            f"i{item:04}": {
                seed: Outcome(None, "error") if np.isnan(score) else Outcome(float(score), RIGHT if score else WRONG)
                for seed, score in enumerate(np.atleast_1d(row))
            }
            for item, row in enumerate(np.asarray(scores, dtype=float))
        }
        for level, scores in levels.items()
    }
    entries = tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in levels)
    return Arm(label, {"noise": noise}, outcomes, Certificate(CERTIFIED, entries))


def losing(lost: int, gained: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """(judged, reference) with so many flips; most of the others are right."""
    ours, theirs = np.ones(n), np.ones(n)
    ours[:lost] = 0
    theirs[lost : lost + gained] = 0
    ours[-40:] = theirs[-40:] = 0
    return ours, theirs


def judged(flips: dict[float, tuple[int, int]], family: str, **fields: Any):
    sides = {level: losing(*pair) for level, pair in flips.items()}
    policy = GatePolicy(**{"margin": 0.03, "family": family, "bootstrap_resamples": 0, **fields})
    ours, theirs = (arm({level: pair[side] for level, pair in sides.items()}) for side in (0, 1))
    return gate(ours, theirs, policy)


def of(part_p: tuple[float, float], verdict: str = INCONCLUSIVE) -> Requirement:
    return Requirement(verdict, "", None, False, *part_p)


tables = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(61, 400))


@settings(max_examples=40, deadline=None)
@given(tables, st.sampled_from([0.0, 0.01, 0.03, 0.1]), st.sampled_from([0.01, 0.05, 0.2]))
def test_one_level_is_judged_as_without_a_family(table, margin, alpha):
    lost, gained, n = table
    ours, theirs = losing(lost, gained, n + lost + gained)
    fields = {"margin": margin, "alpha": alpha, "bootstrap_resamples": 0, "floor": 0.0}
    alone = gate(arm({0.0: ours}), arm({0.0: theirs}), GatePolicy(family=ALL_MUST_PASS, **fields)).levels[0]
    for family in ADJUSTING:
        found = gate(arm({0.0: ours}), arm({0.0: theirs}), GatePolicy(family=family, **fields)).levels[0]
        assert (found.verdict, found.items_needed) == (alone.verdict, alone.items_needed)
        assert (found.adjusted.p_pass, found.adjusted.p_fail) == (
            found.adjusted.adjusted_pass,
            found.adjusted.adjusted_fail,
        )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["n", "n key:shared"]), st.sampled_from([0.02, 0.05, 0.1]))
def test_one_level_of_several_seeds_is_judged_as_without_a_family(seed, noise, margin):
    """Means over seeds (t), and items x seeds where draws are shared; the clean level is left out of the family."""
    rng = np.random.default_rng(seed)
    items, drop = int(rng.integers(20, 300)), rng.uniform(0, 0.2)
    theirs = rng.random((items, 6)) < 0.8
    ours = rng.random((items, 6)) < 0.8 - drop
    clean = np.ones(items)
    sides = [arm({0.0: clean, 0.1: side}, noise) for side in (ours, theirs)]
    for family in (ALL_MUST_PASS, HOLM):
        policy = GatePolicy(margin, family=family, bootstrap_resamples=0, levels=(0.1,))
        found = gate(*sides, policy).levels[0]
        if family == ALL_MUST_PASS:
            alone = found.verdict
        assert found.verdict == alone


def test_three_levels_are_adjusted_as_by_statsmodels():
    flips = {0.0: (2, 0), 0.05: (5, 1), 0.1: (6, 1)}
    p_values = [tango_tails(lost, gained, N, -0.03).above for lost, gained in flips.values()]
    assert [p <= 0.05 for p in p_values] == [True, True, True]
    for family, method in ((HOLM, "holm"), (BENJAMINI_HOCHBERG, "fdr_bh")):
        expected = multipletests(p_values, method=method)[1]
        result = judged(flips, family)
        assert [level.adjusted.adjusted_pass for level in result.levels] == pytest.approx(list(expected), abs=1e-12)
        assert [level.verdict == PASS for level in result.levels] == [p <= 0.05 for p in expected]


def test_what_passes_alone_may_not_pass_in_a_family():
    flips = {0.0: (5, 0), 0.05: (5, 0), 0.1: (12, 4)}
    assert [level.verdict for level in judged(flips, ALL_MUST_PASS).levels] == [PASS, PASS, INCONCLUSIVE]
    holm = judged(flips, HOLM)
    assert [level.verdict for level in holm.levels] == [INCONCLUSIVE] * 3
    first = holm.levels[0]
    assert first.adjusted.adjusted_pass == pytest.approx(3 * first.adjusted.p_pass)
    assert first.reasons[0] == "taken alone this level would PASS, adjusted it is INCONCLUSIVE"
    assert "adjusted 0.0" in first.reasons[1] and "by Holm over 3 levels" in first.reasons[1]
    assert first.items_needed is None
    # the false discovery rate asks for less: both levels count for one another
    assert [level.verdict for level in judged(flips, BENJAMINI_HOCHBERG).levels] == [PASS, PASS, INCONCLUSIVE]


def test_alarms_are_adjusted_by_holm_in_every_family():
    flips = {0.0: (18, 0), 0.05: (5, 0), 0.1: (60, 0)}
    plain = judged(flips, ALL_MUST_PASS)
    assert [level.verdict for level in plain.levels] == [INCONCLUSIVE, PASS, FAIL]
    assert plain.levels[0].reasons[0] == "taken alone this level would FAIL, adjusted it is INCONCLUSIVE"
    assert "alarms are adjusted by Holm over 3 requirements" in plain.levels[0].reasons[1]  # p and adjusted p shown
    assert judged({0.0: flips[0.0]}, ALL_MUST_PASS).verdict == FAIL  # alone there is nothing to adjust
    for family in FAMILIES:
        found = judged(flips, family)
        assert found.verdict == FAIL
        assert [level.verdict for level in found.levels][::2] == [INCONCLUSIVE, FAIL]
        alarms = judge_family("holm", {f"{n}": level.adjusted.p_fail for n, level in enumerate(found.levels)})
        assert [level.adjusted.adjusted_fail for level in found.levels] == pytest.approx(list(alarms.adjusted.values()))
        words = " ".join(found.levels[0].reasons)
        assert "alarms are adjusted by Holm over 3 requirements" in words
        assert "alarms are adjusted by Holm" in found.family


def test_a_level_passes_by_its_worst_requirement_and_every_requirement_is_an_alarm():
    parts = {0.0: (of((0.01, 0.9)),), 0.1: (of((0.001, 0.7)), of((0.02, 0.012)))}
    found = judge_levels(HOLM, parts, 0.05)
    assert found[0.1][1].p_pass == 0.02
    assert found[0.0][1].adjusted_pass == found[0.1][1].adjusted_pass == pytest.approx(0.02)
    assert (found[0.1][1].p_fail, found[0.1][1].requirements) == (0.012, 3)
    assert found[0.1][1].adjusted_fail == pytest.approx(0.036)
    assert [verdict for verdict, _ in found.values()] == [PASS, FAIL]


def test_a_requirement_without_evidence_raises_no_alarm_and_lets_nothing_pass():
    none = Requirement(INVALID, "undefined")
    found = judge_levels(HOLM, {0.0: (of((0.001, 0.9)),), 0.1: (of((0.9, 0.02)), none)}, 0.05)
    assert [verdict for verdict, _ in found.values()] == [PASS, FAIL]
    assert found[0.1][1].requirements == 2 and found[0.1][1].adjusted_pass == 1.0
    weak = judge_levels(HOLM, {0.0: (of((0.001, 0.9)),), 0.1: (of((0.9, 0.04)), none)}, 0.05)
    assert [verdict for verdict, _ in weak.values()] == [PASS, INVALID]


def test_retention_belongs_to_the_family():
    rng = np.random.default_rng(0)
    noisy = (rng.random((N, 3)) < 0.85).astype(float)
    ours = arm({0.0: np.ones(N), 0.1: noisy})
    policy = GatePolicy(0.03, family=HOLM, bootstrap_resamples=0, retentions=((0.1, 0.9),))
    found = gate(ours, ours, policy).levels
    assert [level.adjusted.requirements for level in found] == [3, 3]
    assert found[1].verdict == FAIL  # its retention is about 0.85
    assert found[1].adjusted.p_pass > 0.99 and found[1].adjusted.adjusted_fail < 0.01
    assert found[1].adjusted.adjusted_fail == pytest.approx(3 * found[1].adjusted.p_fail)


def test_an_invalid_level_stays_so_and_belongs_to_no_family():
    sides = {0.0: losing(5), 0.05: losing(5), 0.1: losing(5)}
    ours, theirs = (arm({level: pair[side] for level, pair in sides.items()}) for side in (0, 1))
    broken = Certificate(
        CERTIFIED, (*ours.certificate.levels[:2], LevelCertificate(0.1, 1, 1, 1, 1, 1, 0, 0, 1, ("x",)))
    )
    candidate = Arm("arm", ours.key, ours.outcomes, broken)
    result = gate(candidate, theirs, GatePolicy(0.03, family=HOLM, bootstrap_resamples=0))
    assert [level.verdict for level in result.levels] == [PASS, PASS, INVALID] and result.verdict == INVALID
    assert result.levels[2].adjusted is None
    assert result.levels[0].adjusted.levels == 2


def test_unmeasured_outcomes_that_would_turn_an_adjusted_verdict_make_it_invalid():
    """At alpha one lost item more changes nothing, at alpha / 2 it does."""
    ours, theirs = losing(3)
    gap = ours.copy()
    gap[100] = np.nan
    worse = tango_tails(4, 0, N, -0.03).above, tango_tails(3, 0, N - 1, -0.03).above
    alpha = 2 * (worse[0] + worse[1]) / 2
    assert worse[1] < alpha / 2 < worse[0] < alpha
    fields = {"margin": 0.03, "alpha": alpha, "bootstrap_resamples": 0}
    candidate, baseline = arm({0.0: gap, 0.1: gap}), arm({0.0: theirs, 0.1: theirs})
    assert gate(candidate, baseline, GatePolicy(family=ALL_MUST_PASS, **fields)).verdict == PASS
    found = gate(candidate, baseline, GatePolicy(family=HOLM, **fields)).levels[0]
    assert found.verdict == INVALID
    assert found.reasons[0].startswith("counted as lost, the outcomes of this family that were not measured would turn")
    assert "into INCONCLUSIVE, adjusted by Holm" in found.reasons[0]


def report_of(result) -> dict[str, Any]:
    empty = {"levels": [], "ledger": [], "flips": [], "quantization": [], "missing_records": 0, "notes": [], "code": []}
    return {
        **empty,
        "checkpoint": None,
        "run": "r",
        "gate": result.to_json(),
        "certificate": result.certificate.to_json(),
        "plan": {"excluded": {}, "uncovered": {}, "uncompared": {}},
        "measurement_key": {},
        "environment": {"packages": {}, "processor": "p", "cores": 1},
    }


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (HOLM, "Holm over levels, the chance of any wrong PASS is held"),
        (BENJAMINI_HOCHBERG, "(false discovery rate) is held"),
    ],
)
def test_every_report_names_family_and_adjusted_p(family, words):
    result = judged({0.0: (2, 0), 0.1: (5, 0)}, family)
    shown = json.loads(json.dumps(result.to_json(), allow_nan=False))
    adjusted = shown["levels"][1]["adjusted"]
    assert (adjusted["family"], adjusted["alarms"]) == (family, HOLM)
    assert adjusted["pass"]["adjusted"] >= adjusted["pass"]["p"] > 0 and adjusted["pass"]["hypotheses"] == 2
    assert adjusted["fail"]["adjusted"] == 1.0
    assert words in shown["family"] and "one-sided for the family" in shown["family"]
    console = Console(record=True, width=400)
    show(gate_page(shown), console)
    said = f"adjusted {adjusted['pass']['adjusted']:.3g} by"
    for text in (console.export_text(), markdown(run_page(report_of(result)))):
        assert words in text and said in text
    assert judged({0.0: (2, 0)}, ALL_MUST_PASS).to_json()["levels"][0]["adjusted"] is None


def test_rules_for_levels_that_are_not_judged_are_refused_with_the_nearest():
    sides = losing(0)
    ours, theirs = (arm({0.0: side, 0.05: side, 0.1: side}) for side in sides)
    for field, level, words in (
        ("retentions", 10.0, "retention_at of level 10; the judged levels are 0, 0.05, 0.1; did you mean 0.1?"),
        ("retentions", 0.0, "a retention is relative to level 0"),
        ("margins", 0.04, "margin_at of level 0.04; the judged levels are 0, 0.05, 0.1; did you mean 0.05?"),
    ):
        policy = GatePolicy(bootstrap_resamples=0, **{field: ((level, 0.4),)})
        with pytest.raises(HarnessError, match=re.escape(words)):
            gate(ours, theirs, policy)
