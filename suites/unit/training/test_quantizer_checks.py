"""Quantizers that are missing, apart or unasked: the checks of their ledgers name them."""

from __future__ import annotations

import pytest

from suites.unit.training.clean_runs import (
    RUN,
    SITES,
    W4A4,
    check_named,
    passes,
    planted,
    quantized,
    rollout,
    validation,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("planned")]


def unquantized_rollout(evidence):
    rollout(evidence, 1)["counts"] = []


def unquantized_activations(evidence):
    passes(evidence, 2)["training_forward"]["counts"] = quantized(points=("weight",))


def reference_that_nobody_reports(evidence):
    del passes(evidence, 1)["old_log_prob"]


def exclude_read_by_one_side(evidence):
    rollout(evidence, 1)["counts"] = quantized(SITES[1:])


def quantized_in_a_run_without(evidence):
    passes(evidence, 1)["reference"]["counts"] = quantized()


def quantized_validation_of_the_wrong_operand(evidence):
    validation(evidence)["rollout"][0]["counts"] = quantized(points=("output",))


PLANTED = [
    (unquantized_rollout, W4A4, "quantizer_missing"),
    (unquantized_activations, W4A4, "quantizer_missing"),
    (reference_that_nobody_reports, W4A4, "quantizer_missing"),
    (exclude_read_by_one_side, W4A4, "quantized_sites_differ"),
    (quantized_in_a_run_without, {**RUN, "noise": False}, "quantized_without_being_asked"),
    (quantized_validation_of_the_wrong_operand, W4A4, "quantized_without_being_asked"),
]


@planted(PLANTED)
def test_a_planted_violation_is_named(plant, changes, named):
    check_named(plant, changes, named)
