"""Items in clusters: what moves together is judged together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.baselines.file import Baseline, dump, load
from harness.evaluate.tasks.base import Item, clusters_of
from harness.exceptions import HarnessError
from harness.gates import INCONCLUSIVE, PASS, GatePolicy, gate
from harness.gates.forecast import forecast, joint_odds
from harness.gates.pairing import pair
from harness.gates.requirements import accuracy, difference
from harness.record import CERTIFIED, EXTERNAL, RIGHT, WRONG, Arm, Certificate, LevelCertificate, Outcome
from harness.stats import paired_mean

pytestmark = pytest.mark.unit
N, SIZE = 200, 10


def arm(right: np.ndarray, clusters: dict[str, str] | None = None, seeds: int = 1) -> Arm:
    cells = {
        f"i{row:03}": {s: Outcome(float(value), RIGHT if value else WRONG) for s in range(seeds)}
        for row, value in enumerate(right)
    }
    entry = LevelCertificate(0.0, 1, 1, 1, 1, 1, 0.0, 0.0, 1)
    return Arm("arm", {"noise": "n"}, {0.0: cells}, Certificate(CERTIFIED, (entry,)), clusters=clusters or {})


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """One whole cluster of ten items gained and none lost: ten items alone say much, one cluster little."""
    theirs = np.ones(N)
    theirs[:SIZE] = 0
    return np.ones(N), theirs, {f"i{row:03}": f"template {row // SIZE}" for row in range(N)}


def test_clusters_widen_the_interval_and_change_the_verdict(sides) -> None:
    ours, theirs, clusters = sides
    policy = GatePolicy(margin=0.03, bootstrap_resamples=200)
    alone = gate(arm(ours), arm(theirs), policy).levels[0]
    together = gate(arm(ours, clusters), arm(theirs), policy).levels[0]
    assert (alone.verdict, together.verdict) == (PASS, INCONCLUSIVE)
    expected = paired_mean(ours - theirs, clusters=np.arange(N) // SIZE)
    assert (together.difference.low, together.difference.high) == pytest.approx((expected.low, expected.high))
    assert "over 20 clusters" in together.reasons[0]
    assert together.bootstrap.high - together.bootstrap.low > 1.5 * (alone.bootstrap.high - alone.bootstrap.low)
    single = {item: item for item in clusters}
    assert gate(arm(ours, single), arm(theirs, single), policy).levels[0] == alone


def test_either_side_may_know_the_clusters_and_accuracies_use_them(sides) -> None:
    ours, theirs, clusters = sides
    cells = [side.outcomes[0.0] for side in (arm(ours), arm(theirs))]
    pairs = pair(*cells, clusters=clusters)
    assert difference(pairs, 0.05).low < difference(pair(*cells), 0.05).low
    assert accuracy(pairs, pairs.means()[1], 0.05).low < accuracy(pair(*cells), theirs, 0.05).low
    first, second = (gate(arm(ours, a), arm(theirs, b)).levels[0] for a, b in ((clusters, {}), ({}, clusters)))
    assert first.difference == second.difference


def test_early_stopping_is_refused(sides) -> None:
    ours, theirs, clusters = sides
    with pytest.raises(HarnessError, match=r"on items in clusters; .* not independent"):
        gate(arm(ours, clusters), arm(theirs), GatePolicy(early_stop=0.5))


def test_a_baseline_keeps_its_clusters(sides, tmp_path) -> None:
    _, theirs, clusters = sides
    held = replace(arm(theirs, clusters), certificate=Certificate(EXTERNAL))
    own = Baseline("b", "because", "2026-11-28", {}, None, held)
    path = tmp_path / "b.json"
    path.write_text(dump(own))
    assert dict(load(path).arm.clusters) == clusters
    assert '"clusters"' not in dump(replace(own, arm=arm(theirs)))


def test_a_task_names_clusters_and_equal_prompts_are_one() -> None:
    items = [Item(key, key, "1", "") for key in "abcd"] + [Item(key, key, "1", "", cluster="t") for key in "ef"]
    items.append(Item("g", "g", "1", "", cluster="alone"))
    prompts = {"a": (1, 2), "b": (3,), "c": (1, 2), "d": (4,), "e": (5,), "f": (6,), "g": (3,)}
    found = clusters_of(items, prompts)
    assert set(found) == {"a", "c", "e", "f"}
    assert found["a"] == found["c"] != found["e"] == found["f"]


def test_the_odds_of_the_whole_gate() -> None:
    one = forecast(arm(np.ones(N)), discordance=0.1)
    whole = joint_odds(one)
    assert whole.passing == pytest.approx(one[0].odds.passing) and whole.failing == pytest.approx(one[0].odds.failing)
    three = joint_odds(one * 3)
    assert three.passing == pytest.approx(one[0].odds.passing ** 3)
    assert three.passing + three.inconclusive + three.failing == pytest.approx(1.0)
    assert joint_odds(()).inconclusive == 1.0
