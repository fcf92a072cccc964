"""Weights, gradients, prompts and steps that are not what was planned: the proofs name them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.training.integrity import judge
from suites.unit.training.clean_runs import (
    AQN,
    DAPO,
    PROMPTS,
    QUANTIZED,
    SAME,
    SITES,
    STEPS,
    check_named,
    passes,
    planted,
    rollout,
    run_of,
    step_line,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("planned")]


def weights_untold(evidence):
    del step_line(evidence, 2)["actor"][0]["weights_kept"]


def planned_for_other_steps(evidence):
    evidence.ledger[0]["planned_steps"] = 233


def actor_keeps_quantized_weights(evidence):
    step_line(evidence, 2)["actor"][0]["weights_kept"]["old_log_prob"] = False


def rollout_keeps_noise(evidence):
    rollout(evidence, 3)["restored"]["weights"] = ["a", "b"]


def validation_keeps_noise(evidence):
    evidence.ledger[1]["taken_back"][0]["weights"] = ["a", "b"]


def zero_gradient_through_a_quantizer(evidence):
    evidence.metrics[2]["robust/quantized_gradient_least"] = 0.0
    passes(evidence, 2)["training_forward"]["gradients"] = {SITES[0]: {"weight": 1.0, "input": 0.0}}


def no_gradient_measured(evidence):
    del evidence.metrics[2]["robust/quantized_modules"]


def all_groups_fail(evidence):
    evidence.metrics[2]["robust/kept_prompts"] = 0.05


def nobody_counts_prompts(evidence):
    del evidence.metrics[2]["robust/kept_prompts"]


def prompts_of_another_day(evidence):
    evidence.ledger[-1]["prompts"] = "f" * 16


def prompts_changed_on_the_way(evidence):
    evidence.ledger[1]["prompts"] = "f" * 16


def prompts_untold(evidence):
    del evidence.ledger[-1]["prompts"]


def prompts_read_back_untold(evidence):
    evidence.reloaded["prompts"] = ""


def rollout_never_synced(evidence):
    rollout(evidence, 2)["restored"] = None


PLANTED = [
    (rollout_never_synced, SAME, "weights_not_restored"),
    (prompts_of_another_day, SAME, "prompts_differ"),
    (prompts_changed_on_the_way, SAME, "prompts_differ"),
    (prompts_untold, SAME, "prompts_differ"),
    (prompts_read_back_untold, SAME, "prompts_differ"),
    (weights_untold, SAME, "weights_not_restored"),
    (planned_for_other_steps, AQN, "planned_steps_differ"),
    (actor_keeps_quantized_weights, SAME, "weights_not_restored"),
    (rollout_keeps_noise, AQN, "weights_not_restored"),
    (validation_keeps_noise, AQN, "weights_not_restored"),
    (zero_gradient_through_a_quantizer, QUANTIZED, "quantized_gradient_vanished"),
    (no_gradient_measured, QUANTIZED, "quantized_gradient_vanished"),
    (all_groups_fail, DAPO, "prompts_not_kept"),
    (nobody_counts_prompts, DAPO, "prompts_not_kept"),
]


@planted(PLANTED)
def test_a_planted_violation_is_named(plant, changes, named):
    check_named(plant, changes, named)


def test_a_silent_module_is_named():
    evidence = run_of(QUANTIZED)
    zero_gradient_through_a_quantizer(evidence)
    assert [each.words for each in judge(evidence)] == [f"step 2: gradient 0 through a quantized module, {SITES[0]}"]


def test_a_checkpoint_may_answer_one_item_otherwise_in_float32_and_one_in_a_hundred_in_bfloat16():
    one_off = {"step": STEPS, "score": 0.59375 - 1 / 32, "items": 32, "problem": "", "prompts": PROMPTS}
    assert judge(replace(run_of(SAME), reloaded=one_off)) == ()
    assert judge(replace(run_of(SAME), reloaded={**one_off, "score": 0.59375 - 2 / 32}))
