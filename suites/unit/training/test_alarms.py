"""Runs that collapse, drone on or forget: the alarms name them."""

from __future__ import annotations

import pytest

from suites.unit.training.clean_runs import SAME, STEPS, check_named, planted

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("planned")]


def gradient_of_a_collapse(evidence):
    evidence.metrics[3]["actor/grad_norm"] = 88.7


def entropy_explodes(evidence):
    evidence.metrics[3]["actor/entropy"] = 2.5


def entropy_vanishes(evidence):
    evidence.metrics[3]["actor/entropy"] = 1e-5


def nobody_tells_entropy(evidence):
    for step in range(1, STEPS + 1):
        del evidence.metrics[step]["actor/entropy"]


def answers_twice_as_long(evidence):
    evidence.metrics[3]["response_length/mean"] = 250.0


def answers_reach_the_limit(evidence):
    evidence.metrics[3]["response_length/clip_ratio"] = 0.75


def score_falls(evidence):
    evidence.metrics[STEPS]["val-core/arith/acc/mean@1"] = 0.0


def nobody_tells_what_was_cut_off(evidence):
    for told in evidence.metrics.values():
        told.pop("response_length/clip_ratio", None)


PLANTED = [
    (nobody_tells_what_was_cut_off, SAME, "answers_cut_off"),
    (gradient_of_a_collapse, SAME, "gradient_exploded"),
    (entropy_explodes, SAME, "entropy_out_of_bounds"),
    (entropy_vanishes, SAME, "entropy_out_of_bounds"),
    (nobody_tells_entropy, SAME, "entropy_out_of_bounds"),
    (answers_twice_as_long, SAME, "answers_grow"),
    (answers_reach_the_limit, SAME, "answers_cut_off"),
    (score_falls, SAME, "score_dropped"),
]


@planted(PLANTED)
def test_a_planted_violation_is_named(plant, changes, named):
    check_named(plant, changes, named)
