"""What a gate on texts can tell beforehand: from two noise seeds of its baseline, held against gates that are run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.gates import PASS, GatePolicy, gate
from harness.gates.forecast import forecast, forecast_tasks, joint_odds
from harness.gates.nats_forecast import NatsForecast
from harness.record import Arm
from harness.testing.arms import make_arm, make_text_arm

pytestmark = pytest.mark.unit
N, SEEDS, SPREAD = 150, 2, 0.3
SIZES = [60 + 11 * (place % 12) for place in range(N)]


def arm(seed: int = 0, levels: tuple[float, ...] = (0.0, 0.1), n: int = N, seeds: int = SEEDS) -> Arm:
    """Each document loses 0.2 nats a token under noise, give or take :data:`SPREAD` at each draw."""
    rng = np.random.default_rng(seed)
    sizes = SIZES[:n]
    rows: dict[float, list[list[float]]] = {}
    for level in levels:
        lost = [rng.normal(0.2, SPREAD, seeds) if level else np.zeros(1) for _ in sizes]
        rows[level] = [[-size * (3 + float(each)) for each in own] for size, own in zip(sizes, lost, strict=True)]
    return make_text_arm(rows, sizes)


def at(found: tuple[object, ...], index: int) -> NatsForecast:
    level = found[index]
    assert isinstance(level, NatsForecast)
    return level


def test_the_spread_is_that_between_two_draws() -> None:
    found = at(forecast(arm(), GatePolicy(nats_margin=0.1)), 1)
    moments = math.sqrt(float(np.square(SIZES).mean())) / float(np.mean(SIZES))
    assert found.sd == pytest.approx(SPREAD * math.sqrt(2 / SEEDS) * moments, rel=0.15) and found.own
    assert (found.n, found.noise_seeds, found.tokens) == (N, SEEDS, sum(SIZES))
    assert found.effective == pytest.approx(sum(SIZES) ** 2 / float(np.square(SIZES).sum()))


def test_the_odds_are_those_of_gates_that_are_run() -> None:
    policy = GatePolicy(nats_margin=0.06, levels=(0.1,))
    told = at(forecast(arm(), policy), 0).odds.passing
    passed = [gate(arm(2 * n + 1), arm(2 * n + 2), policy).verdict == PASS for n in range(150)]
    assert 0.2 < told < 0.9 and told == pytest.approx(float(np.mean(passed)), abs=0.15)


def test_the_clean_level_is_assumed_to_move_as_the_lowest_noise_moves_it() -> None:
    clean = at(forecast(arm(), GatePolicy(nats_margin=0.1)), 0)
    assert not clean.own and clean.seeds is None and clean.sd == pytest.approx(SPREAD, rel=0.25)
    alone = at(forecast(arm(levels=(0.0,)), GatePolicy(nats_margin=0.1)), 0)
    assert alone.sd is None and alone.effect is None and alone.odds.passing == 1


def test_what_is_enough_is_enough() -> None:
    found = at(forecast(arm(), GatePolicy(nats_margin=0.04)), 1)
    assert found.items is not None and found.seeds is not None and found.odds.passing < 0.8
    assert found.warning is not None and "minimum detectable effect" in found.warning
    more = at(forecast(arm(n=100), GatePolicy(nats_margin=0.2)), 1)
    assert more.items is not None and 80 <= more.items < 120 and more.warning is None and more.seeds == 1


def test_too_few_documents_cannot_pass_and_say_so() -> None:
    found = at(forecast(arm(n=40), GatePolicy(nats_margin=1.0)), 1)
    assert found.odds.passing == 0 and found.items is not None and found.items >= 80
    assert found.warning is not None and "80 can" in found.warning


def test_without_a_margin_the_effect_is_told() -> None:
    found = at(forecast(arm()), 1)
    assert found.margin is None and found.effect is not None and found.items is None and found.warning is None


def test_clusters_count_in_place_of_documents() -> None:
    names = {f"i{place:04d}": f"c{place % 70}" for place in range(N)}
    alone = arm()
    together = make_text_arm({0.0: [-3.0 * size for size in SIZES]}, SIZES, clusters=names)
    assert at(forecast(alone), 0).effective > 100 and at(forecast(together), 0).effective <= 70


def test_both_kinds_of_tasks_have_joint_odds() -> None:
    policy = GatePolicy(margin=0.1, nats_margin=0.1, bootstrap_resamples=0)
    right = make_arm({0.0: [1] * 180 + [0] * 20}, key={"task": "arith", "scorer": "strict"})
    found = forecast_tasks({"arith": right, "perplexity": arm()}, policy)
    whole = joint_odds([level for own in found.values() for level in own])
    assert whole.passing == pytest.approx(math.prod(level.odds.passing for own in found.values() for level in own))
    assert found["perplexity"][1].to_json()["warning"] is None
