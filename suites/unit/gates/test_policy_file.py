"""A policy as a file: every field round-trips, nothing unknown passes, and each rule acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.gates import FAIL, INCONCLUSIVE, INVALID, PASS, GatePolicy, gate
from harness.gates.policy import ALL_MUST_PASS
from harness.gates.policy_file import PER_LEVEL, load_policy, policy_of
from harness.record import Arm
from harness.testing import make_arm as arm

pytestmark = pytest.mark.unit
FULL = """
[policy]
levels = [0.10, 0, 0.05]
margin = 0.03
margin_at = { "0" = 0.02, "0.10" = 0.05 }
min_retention = 0.5
retention_at = { "0.05" = 0.85 }
nats_margin = 0.04
nats_margin_at = { "0.10" = 0.2 }
alpha = 0.025
floor = 0.2
noise_seeds = 2
min_overlap = 0.95
family = "all_must_pass"
inconclusive = "fail"
across = "dtype"
bootstrap_resamples = 100
bootstrap_seed = 7
force = false
positive_control = false
kl_margin = 0.02
kl_margin_at = { "0.05" = 0.04 }
early_stop = 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return path

    return write


def items(right: int, count: int, seeds: int = 1) -> list[tuple[int, ...]]:
    return [(int(index < right),) * seeds for index in range(count)]


def test_every_field_of_the_file_is_read(file: Callable[[str], Path]) -> None:
    found = load_policy(file(FULL))
    assert found == GatePolicy(
        margin=0.03,
        levels=(0.0, 0.05, 0.1),
        margins=((0.0, 0.02), (0.1, 0.05)),
        min_retention=0.5,
        retentions=((0.05, 0.85),),
        alpha=0.025,
        floor=0.2,
        noise_seeds=2,
        min_overlap=0.95,
        family=ALL_MUST_PASS,
        inconclusive="fail",
        across="dtype",
        bootstrap_resamples=100,
        bootstrap_seed=7,
        positive_control=False,
        nats_margin=0.04,
        nats_margins=((0.1, 0.2),),
        kl_margin=0.02,
        kl_margins=((0.05, 0.04),),
    )
    plain = {field.name for field in fields(GatePolicy)} - set(PER_LEVEL.values())
    assert all(f"\n{key} = " in FULL for key in {*plain, *PER_LEVEL})
    assert (found.margin_at(0.0), found.margin_at(0.05), found.margin_at(0.1)) == (0.02, 0.03, 0.05)
    assert (found.retention_at(0.05), found.retention_at(0.1)) == (0.85, 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("margin = 0.03", "one table [policy]"),
        ("[policy]\nmargn = 0.03", "unknown key 'margn'; nothing reads it; did you mean 'margin'?"),
        ("[policy]\nmargin = 3.0", "margin 3.0; it is a fraction"),
        ('[policy]\nmargin = "0.03"', "margin = '0.03'; it must be a finite number"),
        ("[policy]\nmargin = nan", "margin = nan; it must be a finite number"),
        ("[policy]\nmargin = 0.6", "margin 0.6; a margin above 0.5 lets nearly everything pass"),
        ('[policy]\nmargin_at = { "0" = 0.51 }', "margin 0.51; a margin above 0.5"),
        ("[policy]\nalpha = 0.21", "alpha 0.21; an alpha above 0.2 lets nearly everything pass"),
        ("[policy]\nforce = 1", "force = 1; it must be true or false"),
        (
            '[policy]\nlevels = [0, 0.1]\nretention_at = { "10" = 0.95 }',
            "level 10; the judged levels are 0, 0.1; did you mean 0.1?",
        ),
        ('[policy]\nlevels = [0, 0.1]\nretention_at = { "0" = 0.95 }', "a retention is relative to level 0"),
        (
            '[policy]\nlevels = [0, 0.1]\nmargin_at = { "0.2" = 0.05 }',
            "margin_at of level 0.2; the judged levels are 0, 0.1; did you mean 0.1?",
        ),
        ('[policy]\nmargin_at = { "low" = 0.03 }', "level 'low' in margin_at"),
        ('[policy]\nmargin_at = { "0.1" = 0.03, "0.10" = 0.04 }', "named twice"),
        ("[policy]\nmargin_at = 0.03", "it maps levels to fractions"),
        ('[policy]\nretention_at = { "0.1" = 1.5 }', "min_retention 1.5"),
        ("[policy]\nlevels = []", "list of numbers"),
        ("[policy]\nlevels = [-0.05]", "level -0.05"),
        ("[policy]\nearly_stop = 1.5", "early_stop 1.5; the share of alpha"),
        ("[policy]\nearly_stop = true", "early_stop = True; it must be a finite number"),
        ("[policy]\nearly_stop = 0.5\nmin_retention = 0.9", "only the difference has an e-process"),
        ('[policy]\nearly_stop = 0.5\nretention_at = { "0.1" = 0.9 }', "only the difference has an e-process"),
        ('[policy]\nearly_stop = 0.5\nfamily = "holm"', "a level that stops early has none"),
        ('[policy]\nfamily = "fixed"', "did you mean 'fixed_sequence'?"),
        ('[policy]\ninconclusive = "pass"', "inconclusive 'pass'"),
        ("[policy]\nnoise_seeds = 0", "at least 1"),
        ("[policy]\nnoise_seeds = 2.5", "noise_seeds = 2.5; it must be a whole number"),
        ("[policy]\nmin_overlap = 95", "from 0 to 1"),
        ("[policy]\nacross = 3", "across = 3; it must be a text"),
        ("[policy", "it is not valid TOML"),
        ("[policy]\n[other]", "it holds policy, other"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(file: Callable[[str], Path], text: str, words: str) -> None:
    path = file(text)
    with pytest.raises(HarnessError) as refused:
        load_policy(path)
    assert words in str(refused.value) and str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="No such file"):
        load_policy(tmp_path / "none.toml")


def verdicts(ours: Arm, theirs: Arm, **fields: Any) -> list[str]:
    policy = policy_of({"margin": 0.03, "bootstrap_resamples": 0, "floor": 0.0, **fields})
    return [level.verdict for level in gate(ours, theirs, policy).levels]


def test_a_level_may_have_its_own_margin() -> None:
    baseline = arm({0.0: items(360, 400), 0.1: items(200, 400)})
    ours = arm({0.0: items(360, 400), 0.1: items(184, 400)})
    assert verdicts(ours, baseline) == [PASS, INCONCLUSIVE]
    assert verdicts(ours, baseline, margin_at={"0.1": 0.08}) == [PASS, PASS]
    assert verdicts(ours, baseline, margin_at={"0.1": 0.01}) == [PASS, FAIL]


def test_a_level_may_have_its_own_retention() -> None:
    baseline = arm({0.0: items(360, 400), 0.1: items(200, 400)})
    assert verdicts(baseline, baseline, retention_at={"0.1": 0.9}) == [PASS, FAIL]
    assert verdicts(baseline, baseline, retention_at={"0.1": 0.4}) == [PASS, PASS]


def test_levels_are_chosen_and_the_others_named() -> None:
    baseline = arm({0.0: items(360, 400), 0.05: items(300, 400), 0.1: items(200, 400)})
    result = gate(baseline, baseline, policy_of({"levels": [0, 0.05], "bootstrap_resamples": 0}))
    assert [level.level for level in result.levels] == [0.0, 0.05]
    assert any("level 0.1 was not judged: the policy does not name it" in reason for reason in result.reasons)
    missing = gate(baseline, baseline, policy_of({"levels": [0, 0.2], "bootstrap_resamples": 0}))
    assert missing.verdict == INVALID and "no outcomes at level 0.2" in missing.levels[1].reasons[0]


def test_families() -> None:
    baseline = arm({0.0: items(380, 400), 0.05: items(300, 400)})
    ours = arm({0.0: items(370, 400), 0.05: items(300, 400)})
    assert verdicts(ours, baseline) == [INCONCLUSIVE, INCONCLUSIVE]
    assert verdicts(ours, baseline, family="all_must_pass") == [INCONCLUSIVE, PASS]
    result = gate(ours, baseline, policy_of({"margin": 0.03, "family": "all_must_pass", "bootstrap_resamples": 0}))
    assert result.verdict == INCONCLUSIVE and result.family.startswith("all levels must pass")


def test_inconclusive_stops_or_fails_and_is_never_green() -> None:
    baseline, ours = arm({0.0: items(380, 400)}), arm({0.0: items(370, 400)})
    for action, code in (("stop", 3), ("fail", 1)):
        result = gate(ours, baseline, policy_of({"margin": 0.03, "inconclusive": action, "bootstrap_resamples": 0}))
        assert (result.verdict, result.exit_code) == (INCONCLUSIVE, code)


def test_least_seeds_and_overlap() -> None:
    baseline = arm({0.0: items(380, 400), 0.05: items(300, 400, seeds=2)})
    assert verdicts(baseline, baseline, noise_seeds=2) == [PASS, PASS]
    assert verdicts(baseline, baseline, noise_seeds=3) == [PASS, INVALID]
    fewer = arm({0.0: items(380, 396), 0.05: items(300, 400, seeds=2)})
    assert verdicts(fewer, baseline, min_overlap=0.98, margin=0.5) == [PASS, PASS]
    assert verdicts(fewer, baseline, min_overlap=0.995, margin=0.5)[0] == INVALID


def test_flips_are_listed_by_item_and_seed() -> None:
    baseline = arm({0.0: [(1,), (0,), (1,)]})
    ours = arm({0.0: [(0,), (1,), (1,)]})
    (level,) = gate(ours, baseline, GatePolicy(bootstrap_resamples=0)).levels
    assert level.flipped == (("i0000", 0, False, "right"), ("i0001", 0, True, "wrong"))
    assert level.to_json()["flipped"][0] == {"item": "i0000", "seed": 0, "gained": False, "baseline": "right"}


def test_what_lets_nearly_everything_pass_must_be_forced(file: Callable[[str], Path]) -> None:
    found = load_policy(file("[policy]\nmargin = 0.6\nalpha = 0.3\nforce = true"))
    assert (found.margin, found.alpha, found.force) == (0.6, 0.3, True)
    assert GatePolicy(margin=0.5, alpha=0.2).force is False
