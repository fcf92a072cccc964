"""Checks that AQN's noise was on the weights that were planned, at the scheduled sigma, and came off again.

As in :mod:`harness.training.integrity` each returns an empty text, or one sentence with the step and what was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.training.evidence import BEGUN, STEP, Evidence


def aqn_targets_differ(evidence: Evidence) -> str:
    """Find a rollout worker that puts AQN on other weights than the model's outline has for the recipe, by whole names,
    or a step at which one of them got nothing."""
    if evidence.recipe.aqn is None:
        return ""
    planned: set[str] = set()
    for line in evidence.lines(BEGUN):
        planned = set(line.get("aqn_targets") or ())
        if not planned:
            return "nobody says which weights AQN should be on"
        for report in line["rollout"]:
            found = set((report.get("aqn") or {}).get("targets", ()))
            if found != planned:
                return f"AQN in {report['process']}: {_difference(planned, found)}"
    for line in evidence.lines(STEP):
        for dose in line["doses"]:
            found = {each["name"] for each in dose["layers"]}
            if found != planned:
                return f"step {line['step']}: AQN's dose: {_difference(planned, found)}"
    return ""


def _difference(planned: set[str], found: set[str]) -> str:
    missing, extra = sorted(planned - found), sorted(found - planned)
    return f"missing {missing[0]}" if missing else f"extra {extra[0]}"


def sigma_not_scheduled(evidence: Evidence) -> str:
    """Find a step whose rollouts ran under another sigma of AQN than its schedule says, or under one unasked."""
    config = evidence.recipe.aqn_config(evidence.layers)
    for line in evidence.lines(STEP):
        step, doses = line["step"], line["doses"]
        if config is None:
            if doses:
                return f"step {step}: AQN without being asked for"
            continue
        if not doses:
            return f"step {step}: no AQN"
        wanted = config.schedule.sigma(step - 1)
        for dose in doses:
            if dose["step"] != step - 1 or not math.isclose(dose["sigma"], wanted, rel_tol=1e-12):
                return f"step {step}: sigma {dose['sigma']:g} of step {dose['step']}, scheduled was {wanted:g}"
            for layer in dose["layers"]:
                asked = wanted * config.multiplier(layer["layer"], step - 1)
                if config.mode == "absolute" and not math.isclose(layer["asked"], asked, rel_tol=1e-9, abs_tol=0):
                    return f"step {step}: {layer['name']} got sigma {layer['asked']:g}, asked was {asked:g}"
    return ""


def restore_skipped(evidence: Evidence) -> str:
    """Find a weight sync before which AQN's noise was not taken back from every weight.

    The first sync of a run, and of one that is resumed, finds none to take back.
    """
    before: Mapping[str, Any] | None = None
    begun = {line["step"] for line in evidence.lines(BEGUN)}
    for line in evidence.lines(STEP):
        last = line["step"] - 1
        if before is not None and before["step"] == last and last not in begun and before["doses"]:
            wanted = len(before["doses"][0]["layers"])
            for report in line["rollout"]:
                done = report["restored"] or {"restored": [], "updated": []}
                if done["updated"] or len(done["restored"]) != wanted:
                    return (
                        f"step {line['step']}: {len(done['restored'])} of {wanted} weights restored in "
                        f"{report['process']} before the sync, {len(done['updated'])} were written by others"
                    )
        before = line
    return ""
