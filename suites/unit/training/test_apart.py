"""Rollout and actor that are, or are not, the same policy: the checks of both sides name what is wrong."""

from __future__ import annotations

import pytest

from harness.training import apart
from harness.training.integrity import judge
from suites.unit.training.clean_runs import (
    AQN,
    QUANTIZED,
    RUN,
    SAME,
    STEPS,
    VALIDATED,
    check_named,
    planted,
    run_of,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("planned")]


def other_draws(evidence):
    evidence.metrics[1]["rollout_corr/k3_kl"] = 2e-3


def kl_beyond_any_recipe(evidence):
    evidence.metrics[1]["rollout_corr/k3_kl"] = 0.3


def weights_of_another_layout(evidence):
    evidence.metrics[1]["rollout_corr/k3_kl"] = 3e-6


def bypassed(evidence):
    del evidence.metrics[1]["rollout_corr/k3_kl"]


def few_effective_samples(evidence):
    evidence.metrics[2]["rollout_corr/rollout_is_eff_sample_size"] = 0.1


def wild_weights(evidence):
    evidence.metrics[2]["rollout_corr/rollout_is_std"] = 3.0


def noise_gone_before_the_rollout(evidence):
    evidence.metrics[2]["rollout_corr/k3_kl"] = 1e-9


def noise_that_adds_up(evidence):
    evidence.metrics[3]["rollout_corr/k3_kl"] = 0.05


def noise_left_in_the_validation(evidence):
    evidence.metrics[0]["robust/validation_k3_kl"] = 1e-4


def rare_tokens_weigh_all(evidence):
    evidence.metrics[2] |= {"rollout_corr/chi2_token": 4.0}


def weights_far_from_one(evidence):
    evidence.metrics[2] |= {"rollout_corr/kl": 0.9}


def validation_not_judged(evidence):
    del evidence.metrics[STEPS][apart.VALIDATION_KL]


def noisy_validation_not_judged(evidence):
    del evidence.metrics[STEPS][apart.NOISY_KL]


def control_untold(evidence):
    del evidence.metrics[STEPS][apart.CONTROL_KL]


def largest_untold(evidence):
    del evidence.metrics[2][apart.DLOGP]


def weights_untold(evidence):
    del evidence.metrics[2]["rollout_corr/chi2_token"]


PLANTED = [
    (validation_not_judged, SAME, "validation_not_clean"),
    (noisy_validation_not_judged, VALIDATED, "draws_not_as_asked"),
    (control_untold, VALIDATED, "draws_not_as_asked"),
    (largest_untold, SAME, "policies_apart"),
    (weights_untold, RUN, "importance_weights_wild"),
    (other_draws, SAME, "policies_apart"),
    (kl_beyond_any_recipe, RUN, "policies_apart"),
    (weights_of_another_layout, QUANTIZED, "policies_apart"),
    (bypassed, SAME, "policies_apart"),
    (few_effective_samples, RUN, "importance_weights_wild"),
    (wild_weights, RUN, "importance_weights_wild"),
    (noise_gone_before_the_rollout, AQN, "noise_not_felt"),
    (noise_that_adds_up, AQN, "policies_apart"),
    (noise_left_in_the_validation, AQN, "validation_not_clean"),
    (rare_tokens_weigh_all, RUN, "importance_weights_wild"),
    (weights_far_from_one, RUN, "importance_weights_wild"),
]


@planted(PLANTED)
def test_a_planted_violation_is_named(plant, changes, named):
    check_named(plant, changes, named)


def judged_noisily(evidence, value, control, largest=1e-5):
    evidence.metrics[STEPS][apart.NOISY_KL] = value
    evidence.metrics[STEPS][apart.CONTROL_KL] = control
    evidence.metrics[STEPS][apart.NOISY_DLOGP] = largest


def test_a_noisy_validation_under_the_same_draws_is_as_good_as_a_clean_one():
    evidence = run_of(VALIDATED)
    judged_noisily(evidence, 2e-13, 0.004)
    evidence.metrics[1][apart.DLOGP] = 2e-5
    assert judge(evidence) == ()


@pytest.mark.parametrize(
    ("value", "control", "largest", "words"),
    [
        (1e-3, 0.004, 1e-5, "under the same draws"),
        (2e-13, 0.004, 1e-4, "abs(dlogp) up to 0.0001 under the same draws"),
        (2e-13, 1e-12, 1e-5, "1e-12 with draws apart, 2e-13 with the same"),
    ],
)
def test_draws_that_are_not_the_same_are_named(value, control, largest, words):
    evidence = run_of(VALIDATED)
    judged_noisily(evidence, value, control, largest)
    (failed,) = judge(evidence)
    assert failed.check == "draws_not_as_asked" and words in failed.words


def test_independent_draws_that_were_the_same_are_named():
    evidence = run_of({**RUN, "noise": {"draws": "independent"}})
    judged_noisily(evidence, 2e-13, 0.004)
    assert "draws_not_as_asked" in {failed.check for failed in judge(evidence)}


def test_one_token_that_is_off_is_named_though_the_mean_is_not():
    evidence = run_of(SAME)
    evidence.metrics[2][apart.DLOGP] = 6e-5
    assert [each.words for each in judge(evidence)] == ["step 2: abs(dlogp) up to 6e-05, at most 5e-05"]


def test_the_bound_of_a_run_with_aqn_goes_with_its_dose():
    evidence = run_of(AQN, "E5b")
    evidence.metrics[2]["rollout_corr/k3_kl"] = 1e-3  # far below 0.1, and more than sigma 0.01 can do
    words = {each.check: each.words for each in judge(evidence)}
    assert set(words) == {"policies_apart"} and "by AQN's dose of 0.0002" in words["policies_apart"]
    assert not apart.same_on_both_sides(evidence)


@pytest.mark.parametrize("part", [{"activations": "mxfp4"}, {"sides": ["rollout"]}])
def test_the_floor_holds_for_weights_alone_and_on_both_sides(part):
    evidence = run_of({**RUN, "noise": False, "quantization": {"weights": "mxfp4", **part}})
    evidence.metrics[1]["rollout_corr/k3_kl"] = 3e-6
    assert not apart.same_on_both_sides(evidence) and not apart.policies_apart(evidence)
