"""Settings that a process lost or was built without: the checks of configuration name them."""

from __future__ import annotations

import pytest

from suites.unit.training.clean_runs import SAME, check_named, planted

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("planned")]


def said(evidence, place):
    return evidence.ledger[0]["echoes"][place]


def setting_that_one_process_lost(evidence):
    said(evidence, 1)["differs"].append(["actor_rollout_ref.actor.clip_ratio_high", 0.2, 0.28])


def process_of_another_recipe(evidence):
    said(evidence, 2)["recipe"] = "0" * 16


def process_without_settings(evidence):
    said(evidence, 1)["held"] = 0


def nobody_says_its_settings(evidence):
    del evidence.ledger[0]["echoes"]


def other_learning_rate(evidence):
    said(evidence, 1)["built"]["engines"][0]["learning_rate"] = [1e-3]


def frozen_weights(evidence):
    said(evidence, 1)["built"]["engines"][0]["trained"] = 90


def rollout_in_half_precision(evidence):
    said(evidence, 2)["built"]["workers"][0]["dtype"] = "float16"


PLANTED = [
    (setting_that_one_process_lost, SAME, "settings_not_in_force"),
    (process_of_another_recipe, SAME, "settings_not_in_force"),
    (process_without_settings, SAME, "settings_not_in_force"),
    (nobody_says_its_settings, SAME, "settings_not_in_force"),
    (other_learning_rate, SAME, "built_otherwise"),
    (frozen_weights, SAME, "built_otherwise"),
    (rollout_in_half_precision, SAME, "built_otherwise"),
]


@planted(PLANTED)
def test_a_planted_violation_is_named(plant, changes, named):
    check_named(plant, changes, named)
