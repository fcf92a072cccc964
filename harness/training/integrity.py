"""The checks of a run while it goes on and at its end: one small function each, named after the failure that it finds.

A check returns an empty text, or one sentence that says at which step what was found. A run that fails one is INVALID.
Source of the levels: FACTS.md section 10 (verl's own examples, NeMo-RL, bitwise runs of other projects).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.record import FORWARD
from harness.training.alarms import (
    GRAD_NORM,
    answers_cut_off,
    answers_grow,
    entropy_out_of_bounds,
    gradient_exploded,
    score_dropped,
)
from harness.training.apart import (
    draws_not_as_asked,
    importance_weights_wild,
    noise_not_felt,
    policies_apart,
    validation_not_clean,
)
from harness.training.aqn_checks import aqn_targets_differ, restore_skipped, sigma_not_scheduled
from harness.training.configuration_checks import built_otherwise, settings_not_in_force
from harness.training.coverage_checks import (
    clean_validation_was_noisy,
    ledger_incomplete,
    noise_left_in_validation,
    noisy_validation_was_clean,
    site_asleep,
    tokens_not_perturbed,
)
from harness.training.evidence import BEGUN, HUNG, STEP, VALIDATED, Evidence, counted
from harness.training.injection import BACKWARD, TRAINING_FORWARD
from harness.training.order import planned_order
from harness.training.proofs import (
    checkpoint_scores_otherwise,
    planned_steps_differ,
    prompts_differ,
    prompts_not_kept,
    quantized_gradient_vanished,
    weights_not_restored,
)
from harness.training.quantizer_checks import (
    quantized_sites_differ,
    quantized_without_being_asked,
    quantizer_missing,
)
from harness.training.verl_plugin.ledgers import changed, of_noise, relative_error

LEVEL_OFF = 0.10
"""How far the achieved relative error may be from the level that was asked for, as a fraction of it."""

Check = Callable[[Evidence], str]


@dataclass(frozen=True)
class Failed:
    """A check that failed, and what it found."""

    check: str
    words: str


def effective_configuration_differs(evidence: Evidence) -> str:
    """Find a process that runs under another configuration than the recipe comes to."""
    wanted = evidence.recipe.effective_hash(evidence.layers)
    for line in evidence.lines(STEP):
        for report in line["actor"]:
            said = report.get("effective", "nothing")
            if said != wanted:
                return f"step {line['step']}: {report['process']} runs {said}, the recipe is {wanted}"
    for line in evidence.lines(BEGUN):
        for process, effective in [("the driver", line["effective"]), *_echoes(line)]:
            if effective != wanted:
                return f"{process} runs {effective}, the recipe is {wanted}"
        hashes = {each["aqn"]["effective"] for each in line["rollout"] if each.get("aqn")}
        if len(hashes) > 1:
            return f"rollout workers have {len(hashes)} different settings of AQN"
        if (evidence.recipe.aqn is not None) and not all(each.get("aqn") for each in line["rollout"]):
            return "a rollout worker has no settings of AQN"
    return ""


def hooked_modules_differ(evidence: Evidence) -> str:
    """Find a process that perturbed other modules than were planned, by their whole names."""
    for line in evidence.lines(STEP):
        for process, name, counts in counted(line):
            for count in counts:
                for word in ("missing", "extra"):
                    if count[word]:
                        return f"step {line['step']}: {name} of {process}: {word} {count[word][0]}"
    return ""


def noise_missing(evidence: Evidence) -> str:
    """Find a process in which a pass that should be noisy changed nothing."""
    for line in evidence.lines(STEP):
        seen = set()
        for process, name, counts in counted(line):
            for part, direction in _asked(evidence, name):
                seen.add(part)
                if not changed(of_noise(counts, direction)):
                    return f"step {line['step']}: {part} in {process} changed nothing"
        absent = {part for each in _names(evidence) for part, _ in _asked(evidence, each)} - seen
        if absent:
            return f"step {line['step']}: no process reports {sorted(absent)[0]}"
    return ""


def noise_not_asked_for(evidence: Evidence) -> str:
    """Find noise in a pass, a direction or a validation that should have none."""
    for line in evidence.lines(STEP):
        for process, name, counts in counted(line):
            allowed = {direction for _, direction in _asked(evidence, name)}
            for direction in (FORWARD, BACKWARD):
                if direction not in allowed and changed(of_noise(counts, direction)):
                    return f"step {line['step']}: {name} {direction} in {process} was perturbed"
    for line in evidence.lines(VALIDATED):
        for process, _, counts in counted(line):
            if changed(of_noise((count for count in counts if count["level"] == 0), FORWARD)):
                return f"step {line['step']}: the clean validation was perturbed in {process}"
    return ""


def noise_level_off(evidence: Evidence) -> str:
    """Find a pass whose relative error is not the level that was asked for."""
    noise = evidence.recipe.noise
    for line in evidence.lines(STEP) if noise is not None else ():
        for process, name, counts in counted(line):
            wanted = 0.0 if noise is None else noise.expected_error(name)
            for direction in {d for _, d in _asked(evidence, name)} if wanted else ():
                found = relative_error(of_noise(counts, direction))
                if abs(found / wanted - 1) > LEVEL_OFF:
                    where = f"{name} {direction} in {process}"
                    return f"step {line['step']}: {where} has error {found:.4f}, asked was {wanted:.4f}"
    return ""


def worker_has_problems(evidence: Evidence) -> str:
    """Find what a process itself says is wrong."""
    for line in evidence.ledger:
        for report in line.get("rollout", ()):
            for problem in report.get("problems", ()):
                return f"step {line['step']}: {report['process']}: {problem}"
    return ""


def gradient_vanished(evidence: Evidence) -> str:
    """Find a step without a finite gradient above 0; where all its groups were of one score there is none to be had."""
    for step in evidence.steps:
        told = evidence.metrics[step]
        value = told.get(GRAD_NORM)
        if value == 0 and told.get("critic/advantages/max") == told.get("critic/advantages/min") == 0:
            continue
        if value is None:
            return f"step {step}: no {GRAD_NORM}"
        if not (math.isfinite(value) and value > 0):
            return f"step {step}: gradient norm {value:g}"
    return ""


def steps_missing(evidence: Evidence) -> str:
    """Find a run that did not do all its steps, or one of them not at all."""
    planned = evidence.recipe.total_steps
    last = planned if evidence.status is not None else max(evidence.steps, default=0)
    gaps = sorted(set(range(1, last + 1)) - set(evidence.steps))
    if gaps:
        return f"step {gaps[0]} of {planned} was not done"
    return f"{len(evidence.steps)} steps done, {planned} planned" if len(evidence.steps) > planned else ""


def data_order_differs(evidence: Evidence) -> str:
    """Find a run that saw its data in another order than its seed gives, which pairs runs of several arms.

    Dynamic sampling draws as much as it needs; a resumed run goes on in the middle.
    """
    lines = evidence.lines(STEP)
    if evidence.recipe.algorithm.filter_groups or [line["step"] for line in lines] != list(range(1, len(lines) + 1)):
        return ""
    planned, number = planned_order(evidence.recipe), evidence.recipe.drawn_prompts
    for line in lines:
        wanted = list(planned[(line["step"] - 1) * number : line["step"] * number])
        if line["drawn"] != wanted:
            return f"step {line['step']}: rows {line['drawn'][:4]}..., planned were {wanted[:4]}..."
    return ""


def run_failed(evidence: Evidence) -> str:
    """Find a run that verl ended with an error, or that was killed because nothing was heard of it."""
    if evidence.status == HUNG:
        return "it hung: nothing was heard of it, or it finished nothing, for too long, and its processes were killed"
    return f"verl ended with status {evidence.status}" if evidence.status else ""


def last_step_not_validated(evidence: Evidence) -> str:
    """Find a run that ended without a validation of its last weights."""
    if evidence.status is None:
        return ""
    validated = [step for step, _ in evidence.validations()]
    return "" if evidence.recipe.total_steps in validated else f"validated at {validated}, not at the last step"


def last_step_not_saved(evidence: Evidence) -> str:
    """Find a run whose last weights are lost."""
    if evidence.status is None or evidence.recipe.total_steps in evidence.saved:
        return ""
    return f"checkpoints of steps {list(evidence.saved)}, none of the last"


CHECKS: tuple[Check, ...] = (
    run_failed,
    ledger_incomplete,
    effective_configuration_differs,
    planned_steps_differ,
    settings_not_in_force,
    quantizer_missing,
    quantized_sites_differ,
    quantized_without_being_asked,
    built_otherwise,
    worker_has_problems,
    hooked_modules_differ,
    noise_missing,
    noise_not_asked_for,
    noise_level_off,
    site_asleep,
    tokens_not_perturbed,
    noisy_validation_was_clean,
    clean_validation_was_noisy,
    noise_left_in_validation,
    aqn_targets_differ,
    sigma_not_scheduled,
    restore_skipped,
    weights_not_restored,
    noise_not_felt,
    gradient_vanished,
    quantized_gradient_vanished,
    policies_apart,
    validation_not_clean,
    draws_not_as_asked,
    importance_weights_wild,
    prompts_not_kept,
    gradient_exploded,
    entropy_out_of_bounds,
    answers_grow,
    answers_cut_off,
    score_dropped,
    steps_missing,
    data_order_differs,
    last_step_not_validated,
    last_step_not_saved,
    prompts_differ,
    checkpoint_scores_otherwise,
)


def judge(evidence: Evidence) -> tuple[Failed, ...]:
    """Return every check of :data:`CHECKS` that fails, in their order; none: the run is valid so far."""
    found = ((check.__name__, check(evidence)) for check in CHECKS)
    return tuple(Failed(name, words) for name, words in found if words)


def _echoes(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(each["process"], each.get("effective", "nothing")) for each in line["rollout"]]


def _names(evidence: Evidence) -> tuple[str, ...]:
    return () if evidence.recipe.noise is None else ("rollout", "old_log_prob", "reference", TRAINING_FORWARD)


def _asked(evidence: Evidence, name: str) -> list[tuple[str, str]]:
    """Return (pass of the recipe, direction) that should be noisy in the pass ``name`` of a ledger."""
    noise = evidence.recipe.noise
    if noise is None or (name == "reference" and not evidence.recipe.algorithm.kl_loss):
        return []
    if name == TRAINING_FORWARD:
        pairs = ((TRAINING_FORWARD, "forward"), (BACKWARD, "backward"))
        return [(part, direction) for part, direction in pairs if part in noise.passes]
    return [(name, "forward")] if name in noise.passes else []
