"""The checks of what a run must be able to show: weights kept, gradients passed, prompts kept, steps, a checkpoint.

Every check returns an empty text, or one sentence that says at which step what was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.training.evidence import BEGUN, STEP, VALIDATED, Evidence
from harness.training.injection import ACTOR

QUANTIZED, LEAST_GRADIENT = "robust/quantized_modules", "robust/quantized_gradient_least"
KEPT = "robust/kept_prompts"


def weights_not_restored(evidence: Evidence) -> str:
    """Find a process whose weights after a pass, or after noise was taken back, are not those from before."""
    for line in evidence.lines(STEP):
        for report in line["actor"]:
            if "weights_kept" not in report:
                return f"step {line['step']}: {report['process']} does not say whether its weights stayed"
            for name, kept in report["weights_kept"].items():
                if not kept:
                    return f"step {line['step']}: {name} left other weights than it found in {report['process']}"
        for report in line["rollout"]:
            if report["restored"] is None:
                return f"step {line['step']}: {report['process']} has had no weights from the actor"
    for kind in (STEP, VALIDATED):
        for line in evidence.lines(kind):
            for where, done in _restores(line):
                pair = done.get("weights")
                if pair and pair[0] != pair[1]:
                    return f"step {line['step']}: weights {pair[1]} after the restore in {where}, synced were {pair[0]}"
    return ""


def _restores(line: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (process, what its last restore before a sync or a validation did)."""
    for report in line["rollout"]:
        if report["restored"] is not None:
            yield report["process"], report["restored"]
    for done in line.get("taken_back", ()):
        yield "a worker that validated", done


def quantized_gradient_vanished(evidence: Evidence) -> str:
    """Find a step without a gradient through some quantized module (a quantizer without straight-through gradients)."""
    part = evidence.recipe.quantization
    if part is None or ACTOR not in part.sides or not part.straight_through:
        return ""
    for step in evidence.steps:
        told = evidence.metrics[step]
        least = told.get(LEAST_GRADIENT)
        if not told.get(QUANTIZED) or least is None:
            return f"step {step}: no gradient of a quantized module was measured"
        if not (math.isfinite(least) and least > 0):
            return f"step {step}: gradient {least:g} through a quantized module{_silent_module(evidence, step)}"
    return ""


def prompts_not_kept(evidence: Evidence) -> str:
    """Find a step that kept too few of its prompts under dynamic sampling: uniform failure (or success) of groups."""
    algorithm = evidence.recipe.algorithm
    if not algorithm.filter_groups:
        return ""
    least = evidence.recipe.trained_prompts / (evidence.recipe.drawn_prompts * algorithm.max_gen_batches)
    for step in evidence.steps:
        kept = evidence.metrics[step].get(KEPT)
        if kept is None:
            return f"step {step}: nothing says which share of the prompts was kept"
        if not kept >= least:
            return f"step {step}: {kept:.0%} of the prompts kept, at least {least:.0%}"
    return ""


def planned_steps_differ(evidence: Evidence) -> str:
    """Find a run that verl planned with another number of steps than its schedule was made for."""
    for line in evidence.lines(BEGUN):
        if line["planned_steps"] != evidence.recipe.total_steps:
            return f"verl plans {line['planned_steps']} steps, the recipe {evidence.recipe.total_steps}"
    return ""


def checkpoint_scores_otherwise(evidence: Evidence) -> str:
    """Find a last checkpoint that, read back, does not score as the run's own last validation did.

    Two engines may answer one item differently by rounding: one item in float32, a hundredth of them in bfloat16.
    """
    found = evidence.reloaded
    if evidence.status != 0 or evidence.recipe.total_steps not in evidence.saved:
        return ""
    validated = dict(evidence.validations()).get(evidence.recipe.total_steps)
    if validated is None:
        return ""
    if found is None or found["step"] != evidence.recipe.total_steps:
        return "the last checkpoint was not read back and scored"
    if found["problem"]:
        return f"step {found['step']}: {found['problem']}"
    items = found["items"]
    allowed = 1 if evidence.recipe.model.dtype == "float32" else max(1, math.ceil(items / 100))
    if abs(found["score"] - validated) * items > allowed + 1e-6:
        return (
            f"step {found['step']}: read back it scores {found['score']:.4f} on {items} items, "
            f"the run's validation was {validated:.4f}"
        )
    return ""


def prompts_differ(evidence: Evidence) -> str:
    """Find a validation that asked otherwise than the harness does: another template, another day in it, other rows.

    What is compared are token ids, as verl rendered them and as the checkpoint was read back.
    """
    step, found = evidence.recipe.total_steps, evidence.reloaded
    if evidence.status != 0 or found is None or found["problem"] or found["step"] != step:
        return ""  # checkpoint_scores_otherwise says it
    asked, told = found.get("prompts"), {line["step"]: line.get("prompts") for line in evidence.lines(VALIDATED)}
    if not asked or not told.get(step):
        return f"step {step}: nobody says which prompts were validated, or which the checkpoint was asked"
    others = [number for number, prompts in told.items() if prompts != asked]
    return f"step {others[0]}: verl's prompts were {told[others[0]]}, the harness asks {asked}" if others else ""


def _silent_module(evidence: Evidence, step: int) -> str:
    """Return ``, MODULE`` for a module whose gradient is nothing, an empty text where the ledger does not tell."""
    for line in evidence.lines(STEP):
        for report in line.get("actor", ()) if line["step"] == step else ():
            for done in report["passes"].values():
                for site, parts in done.get("gradients", {}).items():
                    if not all(math.isfinite(value) and value > 0 for value in parts.values()):
                        return f", {site}"
    return ""
