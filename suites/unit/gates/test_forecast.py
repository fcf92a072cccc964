"""What a gate can tell beforehand: the baseline's own discordance, and predictions that simulation bears out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.exceptions import HarnessError
from harness.gates import PASS, GatePolicy, gate
from harness.gates.forecast import POWER, LevelForecast, forecast
from harness.record import CERTIFIED, Arm, Certificate, LevelCertificate, Outcome
from harness.spec.sampling import Sampling
from harness.stats.odds import verdict_odds, verdict_odds_mean

pytestmark = pytest.mark.long
NARROW = GatePolicy(margin=0.03)
RIGHT, WRONG = Outcome(1.0, "right"), Outcome(0.0, "wrong")


def drawn(n: int, seeds: int, rng: np.random.Generator, chances: np.ndarray) -> dict[str, dict[int, Outcome]]:
    """Outcomes of ``n`` items, each right with its own chance, independently for every seed."""
    right = rng.random((n, seeds)) < chances[:, None]
    return {f"i{i:04}": {s: RIGHT if right[i, s] else WRONG for s in range(seeds)} for i in range(n)}


def arm(levels: dict[float, dict[str, dict[int, Outcome]]]) -> Arm:
    certificate = Certificate(
        CERTIFIED, tuple(LevelCertificate(level, 1, 1, 1, 1, 1, level, level, 1) for level in levels)
    )
    return Arm("arm", {"task": "t"}, levels, certificate)


def only(found: tuple[LevelForecast, ...]) -> LevelForecast:
    (level,) = found
    return level


def test_one_draw_takes_the_assumed_discordance() -> None:
    rng = np.random.default_rng(0)
    level = only(forecast(arm({0.0: drawn(200, 1, rng, np.full(200, 0.9))}), NARROW))
    assert (level.n, level.noise_seeds, level.own, level.discordance, level.seeds) == (200, 1, False, 0.05, None)
    assert level.odds == verdict_odds(200, 0.05, 0.03)
    assert level.warning is not None and "PASS has probability 0.54 even if nothing changed" in level.warning
    wide = only(forecast(arm({0.0: drawn(200, 1, rng, np.full(200, 0.9))}), GatePolicy(margin=0.08)))
    assert wide.warning is None and wide.odds.passing > 0.99


def test_several_draws_give_the_baselines_own() -> None:
    rng = np.random.default_rng(1)
    chances = rng.choice([0.0, 0.5, 1.0], 4000)
    level = only(forecast(arm({0.05: drawn(4000, 4, rng, chances)}), NARROW))
    assert level.own
    assert level.discordance == pytest.approx(2 * np.mean(chances * (1 - chances)), abs=0.01)
    assert level.odds == verdict_odds_mean(4000, math.sqrt(level.discordance / 4), 0.03)


def test_the_prediction_is_what_the_gate_does() -> None:
    """A/A: many fresh pairs of arms with the same chances, judged by the gate itself."""
    rng = np.random.default_rng(2)
    n, seeds, repetitions = 120, 3, 150
    chances = rng.beta(4, 1, n)
    policy = GatePolicy(margin=0.05, bootstrap_resamples=0, floor=0.0)
    passed, predicted = 0, []
    for _ in range(repetitions):
        first, second = ({0.0: drawn(n, 1, rng, np.ones(n)), 0.05: drawn(n, seeds, rng, chances)} for _ in range(2))
        level = gate(arm(first), arm(second), policy).levels[1]
        passed += level.verdict == PASS
        predicted.append(forecast(arm(second), policy)[1].odds.passing)
    expected = float(np.mean(predicted))
    assert 0.2 < expected < 0.95
    assert abs(passed / repetitions - expected) < 4 * math.sqrt(expected * (1 - expected) / repetitions)


def test_what_would_be_enough_is_the_smallest_number() -> None:
    rng = np.random.default_rng(3)
    level = only(forecast(arm({0.1: drawn(200, 5, rng, np.full(200, 0.5))}), NARROW))
    assert level.items is not None and level.seeds is not None
    for count in (level.items - 1, level.items):
        passing = verdict_odds_mean(count, math.sqrt(level.discordance / 5), 0.03).passing
        assert (passing >= POWER) == (count == level.items)
    for count in (level.seeds - 1, level.seeds):
        passing = verdict_odds_mean(200, math.sqrt(level.discordance / count), 0.03).passing
        assert (passing >= POWER) == (count == level.seeds)


def test_too_few_items_are_never_enough_whatever_the_seeds() -> None:
    rng = np.random.default_rng(4)
    level = only(forecast(arm({0.1: drawn(20, 2, rng, np.full(20, 0.5))}), NARROW))
    assert level.seeds is None and level.items is not None and level.warning is not None


def test_levels_and_margins_follow_the_policy() -> None:
    rng = np.random.default_rng(5)
    rows = {level: drawn(50, 2, rng, np.full(50, 0.8)) for level in (0.0, 0.05, 0.1)}
    found = forecast(arm(rows), GatePolicy(margin=0.03, levels=(0.05, 0.1, 0.2), margins=((0.1, 0.2),)))
    assert [(level.level, level.margin) for level in found] == [(0.05, 0.03), (0.1, 0.2)]


def test_degenerate_baselines_have_a_defined_answer() -> None:
    same = {f"i{i}": {0: RIGHT, 1: RIGHT} for i in range(200)}
    level = only(forecast(arm({0.05: same})))
    assert (level.discordance, level.odds.passing, level.seeds) == (0.0, 1.0, 1)
    gaps = {f"i{i}": {0: RIGHT, 1: Outcome(None, "error")} for i in range(3)}
    level = only(forecast(arm({0.05: gaps})))
    assert level.n == 0 and level.odds.inconclusive == 1.0


@pytest.mark.parametrize("discordance", [0.0, -0.1, 1.5, math.nan])
def test_a_discordance_out_of_range_is_refused(discordance: float) -> None:
    with pytest.raises(HarnessError, match="discordance"):
        forecast(arm({0.0: {"i": {0: RIGHT}}}), None, discordance)


def shared(n: int, seeds: int, rng: np.random.Generator, common: float) -> tuple[Arm, Arm]:
    """Two arms whose items have the same chances; a share ``common`` of the draws of one is that of the other."""
    chances, numbers = rng.beta(2, 1, n), rng.random((n, seeds))
    others = np.where(rng.random((n, seeds)) < common, numbers, rng.random((n, seeds)))
    arms = []
    for own in (numbers, others):
        right = own < chances[:, None]
        cells = {f"i{i:04}": {s: RIGHT if right[i, s] else WRONG for s in range(seeds)} for i in range(n)}
        arms.append(replace(arm({0.0: cells}), key={"task": "t", "decoding": str(Sampling(0.7))}))
    return arms[0], arms[1]


def test_of_sampled_answers_pass_is_no_rarer_than_predicted() -> None:
    """The prediction takes draws for independent; those of a gate are common, which can only help."""
    rng = np.random.default_rng(5)
    said, passed = {}, {}
    for common in (0.0, 0.8):
        pairs = [shared(150, 4, rng, common) for _ in range(60)]
        said[common] = np.mean([only(forecast(one, NARROW)).odds.passing for one, _ in pairs])
        passed[common] = np.mean([gate(other, one, NARROW).verdict == PASS for one, other in pairs])
    assert passed[0.0] == pytest.approx(said[0.0], abs=0.2)
    assert passed[0.8] > said[0.8] + 0.25
