"""The rules on a small registry: each verdict follows from the data, and changes when the data change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from harness.claims import Judgement

pytestmark = pytest.mark.unit

Judge = Callable[[dict[str, Any]], Judgement]


def change(small: dict[str, Any], name: str, **changes: Any) -> dict[str, Any]:
    """The experiment ``name`` with other keys; ``value`` is its value at step 100."""
    found = next(table for table in small["experiment"] if table["id"] == name)
    if "value" in changes:
        found["series"][0]["values"] = [changes.pop("value")]
    found.update(changes)
    return found


def add_run(small: dict[str, Any], like: str, name: str, value: float) -> None:
    """A replicate of the experiment ``like``."""
    original = next(table for table in small["experiment"] if table["id"] == like)
    series = [{"steps": [100], "values": [value], "sources": ["S"]}]
    small["experiment"].append({**original, "id": name, "series": series})


def fact(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": "f", "kind": kind, "failure": "F1", "experiments": ["on"], "text": "nothing there", **fields}


def test_more_than_replicates_differ_by_is_single_seed(small: dict[str, Any], judged: Judge) -> None:
    found = judged(small)
    assert found.verdict == "supported_single_seed"
    assert found.pooled_sd == pytest.approx(0.5**0.5) and found.freedom == 4
    low, high = found.numbers.run_interval or (0, 0)
    assert (low, high) == pytest.approx((5 - 2.776445, 5 + 2.776445), abs=1e-4)  # sd * sqrt(2) = 1, t of 4 degrees
    assert found.numbers.difference == pytest.approx(5.0) and found.numbers.runs == (1, 1)
    assert found.seeds_per_arm == 2


def test_a_difference_within_the_spread_is_not_established(small: dict[str, Any], judged: Judge) -> None:
    change(small, "0" + "1", value=56.0)  # one pair of replicates 6 apart
    found = judged(small)
    assert found.verdict == "not_established" and "within the spread between replicates" in found.reason


def test_a_difference_that_questions_explain_is_not_established(small: dict[str, Any], judged: Judge) -> None:
    small["defaults"]["n"] = 100
    found = judged(small)
    assert found.verdict == "not_established" and "the interval of the questions holds 0" in found.reason


def test_replicated_arms_are_supported(small: dict[str, Any], judged: Judge) -> None:
    for name, like, values in (("on", "on", (75.4, 74.9)), ("off", "off", (70.3, 69.8))):
        for index, value in enumerate(values):
            add_run(small, like, f"{name}-{index}", value)
    found = judged(small)
    assert (found.verdict, found.numbers.runs) == ("supported", (3, 3))
    assert found.numbers.attainable_p == pytest.approx(0.1)
    change(small, "on-0", value=69.0)
    assert judged(small).verdict in ("not_established", "supported_single_seed")


def test_published_deviations_over_seeds_count_as_replicates(small: dict[str, Any], judged: Judge) -> None:
    for name in ("on", "off"):
        change(small, name)["series"][0].update(sd=[0.8], seeds=5)
    found = judged(small)
    assert (found.verdict, found.numbers.runs) == ("supported", (5, 5))


def test_an_effect_that_is_a_tiny_share_of_its_gap_is_nil(small: dict[str, Any], judged: Judge) -> None:
    for name, value in (("on", 3.001), ("off", 3.0), ("00", 1000.0)):
        series = [{"steps": [100], "values": [value], "sources": ["S"], "metric": "loss", "sd": [1e-5], "seeds": 5}]
        change(small, name, series=series)
    comparison = small["claim"][0]["comparison"][0]
    comparison.update(arm="on@100 metric=loss", reference="off@100 metric=loss", claimed=0.001)
    assert judged(small).verdict == "supported"
    comparison["gap"] = ["off@100 metric=loss", "00@100 metric=loss"]
    found = judged(small)
    assert found.verdict == "not_established" and "practically nil" in found.reason


def test_a_fact_that_the_factor_was_absent_makes_it_void_and_its_removal_undoes_that(
    small: dict[str, Any], judged: Judge
) -> None:
    small["fact"] = [fact("absent", factor="aqn", effective="off")]
    found = judged(small)
    assert found.verdict == "void" and found.reason.startswith("F1: nothing there")
    assert "one effective configuration" in found.reason
    assert found.numbers.difference == pytest.approx(5.0)  # what was published stays visible
    small["fact"] = []
    assert judged(small).verdict == "supported_single_seed"


def test_an_absent_factor_that_the_claim_is_not_about_is_not_void(small: dict[str, Any], judged: Judge) -> None:
    change(small, "on")["config"]["filter_groups"] = "on"
    assert judged(small).verdict == "confounded"
    small["fact"] = [fact("absent", factor="filter_groups", effective="off")]
    assert judged(small).verdict == "supported_single_seed"  # it really was off, so the arms are alike


def test_arms_that_differ_in_more_are_confounded_and_named(small: dict[str, Any], judged: Judge) -> None:
    change(small, "off")["config"]["filter_groups"] = "on"
    found = judged(small)
    assert found.verdict == "confounded" and "filter_groups (off against on)" in found.reason


def test_where_nothing_is_shown_extra_factors_are_named_but_explain_nothing(
    small: dict[str, Any], judged: Judge
) -> None:
    change(small, "off", value=74.8)["config"]["filter_groups"] = "on"
    small["claim"][0]["comparison"][0]["claimed"] = 0.2
    found = judged(small)
    assert found.verdict == "not_established" and "filter_groups" in found.reason


def test_an_unstated_factor_neither_confounds_nor_makes_replicates(small: dict[str, Any], judged: Judge) -> None:
    change(small, "off")["config"]["filter_groups"] = "unstated"
    assert judged(small).verdict == "supported_single_seed"
    add_run(small, "off", "off-again", 60.0)
    assert judged(small).freedom == 4 and judged(small).numbers.runs == (1, 1)


def test_other_steps_are_confounded_unless_claimed(small: dict[str, Any], judged: Judge) -> None:
    change(small, "off")["series"][0]["steps"] = [50]
    small["claim"][0]["comparison"][0]["reference"] = "off@50"
    assert "step (100 against 50)" in judged(small).reason and judged(small).verdict == "confounded"
    small["claim"][0]["factors"].append("step")
    assert judged(small).verdict == "supported_single_seed"


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ({"scorer": "lenient"}, "confounded"),
        ({"noise": "N"}, "confounded"),
        ({"noise": "A"}, "supported_single_seed"),  # AQN at the evaluation follows from the claimed factor
        ({"prompt": "other"}, "confounded"),
    ],
)
def test_values_measured_differently_are_confounded(
    small: dict[str, Any], judged: Judge, measured: dict[str, str], verdict: str
) -> None:
    change(small, "on", **measured)
    assert judged(small).verdict == verdict


def test_arms_of_one_effective_configuration_are_false(small: dict[str, Any], judged: Judge) -> None:
    change(small, "on", config={})
    found = judged(small)
    assert found.verdict == "false" and "replicates, not arms" in found.reason


def test_a_size_that_the_values_do_not_give_is_false(small: dict[str, Any], judged: Judge) -> None:
    small["claim"][0]["comparison"][0]["claimed"] = 6.0
    found = judged(small)
    assert found.verdict == "false" and "give +5.00, not the claimed +6.00" in found.reason
    change(small, "on")["series"].append({"steps": [100], "values": [76.0], "sources": ["S"]})
    assert judged(small).verdict != "false"  # one of the published values gives it


def test_the_opposite_direction_is_false(small: dict[str, Any], judged: Judge) -> None:
    small["claim"][0]["comparison"][0].update(direction="lower", claimed=-5.0)
    change(small, "on", value=80.0)
    del small["claim"][0]["comparison"][0]["claimed"]
    assert "opposite direction" in judged(small).reason and judged(small).verdict == "false"


def test_contradictory_values_are_all_judged_and_the_careful_verdict_stands(
    small: dict[str, Any], judged: Judge
) -> None:
    change(small, "on")["series"].append({"steps": [100], "values": [71.0], "sources": ["S"]})
    found = judged(small)
    assert found.verdict == "not_established"
    assert "supported_single_seed with 75 and 70" in found.reason and "not_established with 71 and 70" in found.reason
    (comparison,) = found.comparisons
    assert [reading.values for reading in comparison.readings] == [(75.0, 70.0), (71.0, 70.0)]
    assert found.to_json()["verdict_depends_on_values"] is True


def test_contradictory_replicates_are_tried_at_their_widest(small: dict[str, Any], judged: Judge) -> None:
    change(small, "00")["series"].append({"steps": [100], "values": [57.0], "sources": ["S"]})
    found = judged(small)
    assert found.verdict == "supported_single_seed" and "not_established at a pooled sd of" in found.reason


def test_a_conjunction_has_the_verdict_of_its_worst_part(small: dict[str, Any], judged: Judge) -> None:
    small["claim"][0]["comparison"].append({"arm": "on@100", "reference": "00@100", "direction": "higher"})
    found = judged(small)
    assert found.verdict == "confounded" and "on@100 against off@100: supported_single_seed" in found.reason


def test_a_sound_check_decides_for_a_confounded_claim(small: dict[str, Any], judged: Judge) -> None:
    change(small, "off")["config"]["data"] = "other"
    add_run(small, "off", "alike", 70.0)
    change(small, "alike", config={})
    comparisons = small["claim"][0]["comparison"]
    assert judged(small).verdict == "confounded"
    comparisons.append(
        {"role": "check", "arm": "on@100", "reference": "alike@100", "direction": "higher", "claimed": 5}
    )
    assert judged(small).verdict == "supported_single_seed"
    change(small, "alike", value=75.0)
    assert judged(small).verdict == "false"  # 0 +- 2.8 excludes 5
    change(small, "alike", value=72.5)
    assert judged(small).verdict == "confounded"  # neither shown nor excluded


def test_no_effect_needs_intervals_within_the_margin(small: dict[str, Any], judged: Judge) -> None:
    small["claim"][0]["comparison"] = [{"kind": "equivalence", "arm": "on@100", "reference": "off@100", "margin": 12}]
    assert judged(small).verdict == "supported_single_seed"
    small["claim"][0]["comparison"][0]["margin"] = 6
    assert judged(small).verdict == "not_established"
    small["claim"][0]["comparison"][0]["margin"] = 0.5
    assert judged(small).verdict == "false"


def test_a_duplicated_record_is_no_replicate(small: dict[str, Any], judged: Judge) -> None:
    assert judged(small).freedom == 4
    small["fact"] = [fact("duplicate", of="00") | {"experiments": ["01"]}]
    assert judged(small).freedom == 3


def test_a_copied_value_is_void(small: dict[str, Any], judged: Judge) -> None:
    small["fact"] = [fact("copied", of="off", step=100)]
    assert judged(small).verdict == "void"
    small["fact"] = [fact("copied", of="off", step=99)]
    assert judged(small).verdict == "supported_single_seed"


def test_without_a_comparison_nothing_is_established(small: dict[str, Any], judged: Judge) -> None:
    small["claim"][0]["comparison"] = []
    found = judged(small)
    assert (found.verdict, found.reason, found.deciding) == (
        "not_established",
        "no measurement of it is published",
        None,
    )
    assert found.to_json()["numbers"]["difference"] is None


@pytest.mark.parametrize(
    ("comparison", "verdict", "words"),
    [
        ({"kind": "prediction", "arm": "on@100", "claimed": [84, 85]}, "false", "predicted 84 to 85, observed 75"),
        ({"kind": "prediction", "arm": "on@100", "claimed": 76}, "not_established", "one run does not confirm"),
        ({"kind": "rate", "arm": "on@100", "claimed": 90}, "false", "below 90 %"),
        ({"kind": "rate", "arm": "on@100", "claimed": 77}, "supported_single_seed", "989 of 1319"),
        ({"kind": "rate", "arm": "on@100", "claimed": 80}, "false", "below 80 %"),
    ],
)
def test_predictions_and_rates(
    small: dict[str, Any], judged: Judge, comparison: dict[str, Any], verdict: str, words: str
) -> None:
    small["claim"][0]["comparison"] = [comparison]
    found = judged(small)
    assert (found.verdict, words in found.reason) == (verdict, True), found.reason


@pytest.mark.parametrize(("share", "verdict"), [(100.0, "false"), (96.4, "not_established")])
def test_identical_results_are_no_small_change(
    small: dict[str, Any], judged: Judge, share: float, verdict: str
) -> None:
    series = [{"steps": [100], "values": [share], "metric": "identical_share", "sources": ["S"], "n": 28}]
    change(small, "on", series=series)
    small["claim"][0]["comparison"] = [{"kind": "identical", "arm": "on@100 metric=identical_share"}]
    assert judged(small).verdict == verdict


@pytest.mark.parametrize(
    ("formula", "inputs", "claimed", "verdict"),
    [
        ("lora_parameters", {"rank": 2, "layers": 3, "inputs": [10], "outputs": [5]}, 90, "supported"),
        ("lora_parameters", {"rank": 2, "layers": 3, "inputs": [10], "outputs": [5]}, 30, "false"),
        ("window_overlap", {"layers": 28, "window": [*range(11, 17)], "target": [*range(14, 18)]}, 75,
         "not_established"),
        ("window_overlap", {"layers": 280, "window": [*range(14, 18)], "target": [*range(14, 18)]}, 100, "supported"),
        ("adapters_behind_frozen", {"layers": 2, "adapters_per_layer": 3, "last_adapters": 1}, 0, "false"),
    ],
)  # fmt: skip
def test_arithmetic_settles_a_claim(
    small: dict[str, Any], judged: Judge, formula: str, inputs: dict[str, Any], claimed: float, verdict: str
) -> None:
    small["claim"][0]["comparison"] = [{"kind": "formula", "formula": formula, "inputs": inputs, "claimed": claimed}]
    assert judged(small).verdict == verdict


def test_at_step_0_training_has_not_acted(small: dict[str, Any], judged: Judge) -> None:
    for name, epochs in (("on", "2"), ("off", "3")):
        found = change(small, name)
        found["config"]["epochs"] = epochs
        found["series"].append({"steps": [0], "values": [8.0 if name == "off" else 16.0], "sources": ["S"]})
    comparison = small["claim"][0]["comparison"][0]
    assert judged(small).verdict == "confounded"
    comparison.update(arm="on@0", reference="off@0", claimed=8.0)
    assert judged(small).verdict == "supported_single_seed"


def test_questions_needed_are_those_of_statsmodels(small: dict[str, Any], judged: Judge) -> None:
    peer = NormalIndPower().solve_power(proportion_effectsize(0.75, 0.70), alpha=0.05, power=0.8)
    assert judged(small).items_per_arm == pytest.approx(peer, abs=1.5)
