"""Every check of a run against a clean run and a planted violation: it is silent about the one and names the other."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from harness.training.book import load_recipe
from harness.training.integrity import CHECKS, judge
from harness.training.verl_plugin.ledgers import summarised
from suites.unit.training import test_alarms as alarms
from suites.unit.training import test_apart as apart
from suites.unit.training import test_configuration_checks as configuration
from suites.unit.training import test_coverage_checks as coverage
from suites.unit.training import test_proofs as proofs
from suites.unit.training import test_quantizer_checks as quantizers
from suites.unit.training.clean_runs import (
    AQN,
    DAPO,
    LEVEL,
    NORMS,
    PROMPTS,
    QUANTIZED,
    RUN,
    SAME,
    SITES,
    STEPS,
    VALIDATED,
    W4A4,
    check_named,
    count,
    dose,
    lines,
    passes,
    planted,
    rollout,
    run_of,
    step_line,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("planned")]


def other_configuration(evidence):
    evidence.ledger[0]["effective"] = "0" * 16


def other_aqn_in_one_worker(evidence):
    evidence.ledger[0]["rollout"].append(
        {**evidence.ledger[0]["rollout"][0], "aqn": {"effective": "other", "targets": NORMS}}
    )


def worker_without_aqn(evidence):
    evidence.ledger[0]["rollout"].append({**evidence.ledger[0]["rollout"][0], "aqn": None})


def worker_with_a_stale_cache(evidence):
    rollout(evidence, 1)["problems"].append("a stale compile cache")


def substring_exclude(evidence):
    kept = [count(site) for site in SITES if "gate" not in site]
    rollout(evidence, 1)["counts"] = summarised(kept, SITES)


def router_perturbed(evidence):
    found = [count(site) for site in (*SITES, "model.layers.0.mlp.gate")]
    passes(evidence, 2)["old_log_prob"]["counts"] = summarised(found, SITES)


def noise_in_the_actor_only(evidence):
    rollout(evidence, 1)["counts"] = lines(level=0.0)


def noise_in_one_replica_only(evidence):
    quiet = {**rollout(evidence, 1), "process": "box:4", "counts": lines(level=0.0)}
    step_line(evidence, 1)["rollout"].append(quiet)


def no_backward_noise(evidence):
    passes(evidence, 1)["training_forward"]["counts"] = lines()


def pass_that_nobody_reports(evidence):
    del passes(evidence, 2)["old_log_prob"]


def half_the_level(evidence):
    passes(evidence, 1)["old_log_prob"]["counts"] = lines(level=LEVEL / 2)


def half_the_level_in_the_gradient(evidence):
    weak = [
        {**each, "error": each["error"] / 4} if each["direction"] == "backward" else each
        for each in lines(("forward", "backward"))
    ]
    passes(evidence, 1)["training_forward"]["counts"] = weak


def noisy_validation(evidence):
    noisy = summarised([{**count(SITES[0]), "level": 0.0}])
    evidence.ledger[1]["rollout"][0]["counts"] = noisy


def noise_in_a_run_without(evidence):
    passes(evidence, 1)["training_forward"]["counts"] = lines()


def schedule_stuck(evidence):
    step_line(evidence, 3)["doses"] = copy.deepcopy(step_line(evidence, 2)["doses"])


def aqn_on_other_weights(evidence):
    evidence.ledger[0]["rollout"][0]["aqn"]["targets"] = [*NORMS, "model.layers.0.post_attention_layernorm"]


def aqn_misses_a_weight(evidence):
    evidence.ledger[0]["rollout"][0]["aqn"]["targets"] = NORMS[:1]


def aqn_targets_untold(evidence):
    del evidence.ledger[0]["aqn_targets"]


def a_weight_without_a_dose(evidence):
    del step_line(evidence, 2)["doses"][0]["layers"][0]


def aqn_off(evidence):
    step_line(evidence, 2)["doses"] = []


def aqn_unasked(evidence):
    step_line(evidence, 1)["doses"] = [dose(load_recipe("E5b", "tiny", AQN), 1)]


def one_layer_without_its_dose(evidence):
    step_line(evidence, 3)["doses"][0]["layers"][1]["asked"] = 0.0


def restore_left_out(evidence):
    rollout(evidence, 3)["restored"] = {"restored": [], "updated": [], "weights": ["a", "a"]}


def weight_written_by_another(evidence):
    rollout(evidence, 3)["restored"] = {"restored": NORMS[:1], "updated": NORMS[1:], "weights": ["a", "b"]}


def zero_gradient(evidence):
    evidence.metrics[1]["actor/grad_norm"] = 0.0


def nan_gradient(evidence):
    evidence.metrics[2]["actor/grad_norm"] = float("nan")


def step_left_out(evidence):
    del evidence.metrics[2]


def one_step_more(evidence):
    evidence.metrics[STEPS + 1] = evidence.metrics[STEPS]


def other_data(evidence):
    step_line(evidence, 2)["drawn"][0] += 1


def last_validation_left_out(evidence):
    del evidence.metrics[STEPS]["val-core/arith/acc/mean@1"]


def actor_of_another_recipe(evidence):
    step_line(evidence, 1)["actor"][0]["effective"] = "0" * 16


def worker_of_another_recipe(evidence):
    evidence.ledger[0]["rollout"][0]["effective"] = "0" * 16


PLANTED = [
    (other_configuration, SAME, "effective_configuration_differs"),
    (other_aqn_in_one_worker, AQN, "effective_configuration_differs"),
    (worker_without_aqn, AQN, "effective_configuration_differs"),
    (worker_with_a_stale_cache, SAME, "worker_has_problems"),
    (substring_exclude, SAME, "hooked_modules_differ"),
    (router_perturbed, SAME, "hooked_modules_differ"),
    (noise_in_the_actor_only, SAME, "noise_missing"),
    (noise_in_one_replica_only, SAME, "noise_missing"),
    (no_backward_noise, SAME, "noise_missing"),
    (pass_that_nobody_reports, SAME, "noise_missing"),
    (half_the_level, SAME, "noise_level_off"),
    (half_the_level_in_the_gradient, SAME, "noise_level_off"),
    (noisy_validation, SAME, "noise_not_asked_for"),
    (noise_in_a_run_without, AQN, "noise_not_asked_for"),
    (schedule_stuck, AQN, "sigma_not_scheduled"),
    (aqn_on_other_weights, AQN, "aqn_targets_differ"),
    (aqn_misses_a_weight, AQN, "aqn_targets_differ"),
    (aqn_targets_untold, AQN, "aqn_targets_differ"),
    (a_weight_without_a_dose, AQN, "aqn_targets_differ"),
    (aqn_off, AQN, "sigma_not_scheduled"),
    (aqn_unasked, SAME, "sigma_not_scheduled"),
    (one_layer_without_its_dose, AQN, "sigma_not_scheduled"),
    (restore_left_out, AQN, "restore_skipped"),
    (weight_written_by_another, AQN, "restore_skipped"),
    (zero_gradient, SAME, "gradient_vanished"),
    (nan_gradient, SAME, "gradient_vanished"),
    (step_left_out, SAME, "steps_missing"),
    (one_step_more, SAME, "steps_missing"),
    (other_data, SAME, "data_order_differs"),
    (last_validation_left_out, SAME, "last_step_not_validated"),
    (actor_of_another_recipe, SAME, "effective_configuration_differs"),
    (worker_of_another_recipe, SAME, "effective_configuration_differs"),
]


@planted(PLANTED)
def test_a_planted_violation_is_named(plant, changes, named):
    check_named(plant, changes, named)


REREAD = {"step": STEPS, "score": 0.4, "items": 32, "problem": "", "prompts": PROMPTS}
AT_THE_END = [
    ({"status": 1}, "run_failed"),
    ({"status": 124}, "run_failed"),
    ({"saved": (1, 2)}, "last_step_not_saved"),
    ({"reloaded": None}, "checkpoint_scores_otherwise"),
    ({"reloaded": REREAD}, "checkpoint_scores_otherwise"),
    ({"reloaded": {**REREAD, "score": 0.59375, "step": 2}}, "checkpoint_scores_otherwise"),
    ({"reloaded": {**REREAD, "problem": "it cannot be read back"}}, "checkpoint_scores_otherwise"),
]


@pytest.mark.parametrize(("changes", "named"), AT_THE_END)
def test_what_only_the_end_shows(changes, named):
    assert [failed.check for failed in judge(replace(run_of(SAME), **changes))] == [named]


def test_every_check_has_a_planted_violation():
    tables = [alarms, apart, configuration, coverage, proofs, quantizers]
    named = {each[2] for table in (PLANTED, *(module.PLANTED for module in tables)) for each in table}
    named |= {each[1] for each in AT_THE_END} | {"draws_not_as_asked"}  # the last is planted in test_apart.py
    assert named == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize("changes", [SAME, RUN, AQN, VALIDATED, W4A4, {**RUN, "noise": False}, QUANTIZED, DAPO])
def test_a_clean_run_fails_nothing(changes):
    assert judge(run_of(changes)) == ()


def test_a_clean_run_that_goes_on_fails_nothing():
    evidence = run_of(SAME)
    going = replace(evidence, status=None, saved=(), metrics={step: evidence.metrics[step] for step in (0, 1)})
    assert judge(going) == ()


def test_a_resumed_run_has_no_noise_to_take_back_at_its_first_sync():
    evidence = run_of(AQN, "E5b")
    rollout(evidence, 2)["restored"] = {"restored": [], "updated": [], "weights": []}
    assert [failed.check for failed in judge(evidence)] == ["restore_skipped"]
    evidence.ledger.insert(3, {**evidence.ledger[0], "step": 1})  # its second attempt goes on after step 1
    assert judge(evidence) == ()


def test_groups_of_one_score_have_no_gradient_and_that_is_no_fault():
    evidence = run_of(SAME)
    evidence.metrics[2] |= {"actor/grad_norm": 0.0, "critic/advantages/max": 0.0, "critic/advantages/min": 0.0}
    assert judge(evidence) == ()
