"""A ledger that is short of a step, a site or a token, against a clean run: the check of it speaks."""

from __future__ import annotations

import pytest

from harness.training.verl_plugin.ledgers import summarised
from suites.unit.training.clean_runs import (
    AQN,
    NORMS,
    SAME,
    SITES,
    TOKENS,
    UNVALIDATED,
    VALIDATED,
    check_named,
    count,
    lines,
    passes,
    planted,
    rollout,
    step_line,
    validation,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("planned")]


def ledger_without_a_start(evidence):
    del evidence.ledger[0]


def ledger_without_a_step(evidence):
    evidence.ledger.remove(step_line(evidence, 2))


def ledger_lost(evidence):
    evidence.ledger.clear()


def one_site_asleep(evidence):
    counts = [{**count(site), "changed": 0, "error": 0.0} if "gate" in site else count(site) for site in SITES]
    passes(evidence, 2)["old_log_prob"]["counts"] = summarised(counts, SITES)


def ledger_without_sites(evidence):
    del rollout(evidence, 1)["counts"][0]["idle"]


def some_tokens(share, head=False):
    """Counts of a pass in which noise was off for some of the tokens."""
    rows = int(TOKENS * share)
    return summarised([count(site) if ("head" in site) != head else {**count(site), "rows": rows} for site in SITES])


def first_tokens_only(evidence):
    rollout(evidence, 2)["counts"] = some_tokens(0.5)


def head_half_the_time(evidence):
    rollout(evidence, 2)["counts"] = some_tokens(0.2, head=True)


def one_micro_batch_without(evidence):
    passes(evidence, 3)["training_forward"]["counts"] = some_tokens(0.75) + lines(("backward",))


def tokens_unknown(evidence):
    del evidence.metrics[3]["perf/total_num_tokens"]


def clean_noisy_validation(evidence):
    validation(evidence)["rollout"][0]["counts"] = lines(level=0.0)


def noisy_validation_without_a_site(evidence):
    kept = [count(site) for site in SITES if "gate" not in site]
    validation(evidence)["rollout"][0]["counts"] = lines(level=0.0) + summarised(kept, SITES)


def clean_validation_at_the_noisy_level(evidence):
    validation(evidence)["rollout"][0]["counts"] = lines() + lines()


def validation_under_unasked_noise(evidence):
    validation(evidence)["rollout"][0]["counts"] += lines()


def validated_under_aqn(evidence):
    validation(evidence)["taken_back"] = [{"restored": NORMS[:1], "updated": []}]


def validated_unknown(evidence):
    del validation(evidence)["taken_back"]


PLANTED = [
    (ledger_without_a_start, SAME, "ledger_incomplete"),
    (ledger_without_a_step, SAME, "ledger_incomplete"),
    (ledger_lost, SAME, "ledger_incomplete"),
    (one_site_asleep, SAME, "site_asleep"),
    (ledger_without_sites, SAME, "site_asleep"),
    (first_tokens_only, SAME, "tokens_not_perturbed"),
    (head_half_the_time, SAME, "tokens_not_perturbed"),
    (one_micro_batch_without, SAME, "tokens_not_perturbed"),
    (tokens_unknown, SAME, "tokens_not_perturbed"),
    (clean_noisy_validation, VALIDATED, "noisy_validation_was_clean"),
    (noisy_validation_without_a_site, VALIDATED, "noisy_validation_was_clean"),
    (clean_validation_at_the_noisy_level, VALIDATED, "clean_validation_was_noisy"),
    (validation_under_unasked_noise, UNVALIDATED, "clean_validation_was_noisy"),
    (validated_under_aqn, AQN, "noise_left_in_validation"),
    (validated_unknown, AQN, "noise_left_in_validation"),
]


@planted(PLANTED)
def test_a_planted_violation_is_named(plant, changes, named):
    check_named(plant, changes, named)
