"""Checks of a run that look below the sums: did every site act, and on every token that was sampled and trained on?

As in :mod:`harness.training.integrity` each returns an empty text, or one sentence with the step and what was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from harness.record import FORWARD
from harness.training.evidence import BEGUN, STEP, VALIDATED, Evidence, counted
from harness.training.injection import OLD_LOG_PROB, ROLLOUT, TRAINING_FORWARD, VALIDATION
from harness.training.verl_plugin.ledgers import of_noise

TOKENS, RESPONSE = "perf/total_num_tokens", "response_length/mean"
"""verl's tokens of a step's prompts and answers, and the mean length of its answers."""

ROWS_OF = "linear"
"""The operator whose rows are the tokens that it saw."""


def ledger_incomplete(evidence: Evidence) -> str:
    """Find a run whose ledger lacks its start or a step that verl did: other checks read what is there, not what is
    missing."""
    if evidence.steps and not evidence.lines(BEGUN):
        return "the ledger does not tell how the run began"
    missing = sorted(set(evidence.steps) - {line["step"] for line in evidence.lines(STEP)})
    return f"step {missing[0]}: verl has metrics of it, the ledger has nothing" if missing else ""


def site_asleep(evidence: Evidence) -> str:
    """Find a site that was planned and counted and changed nothing, which the sums over sites hide."""
    for line in evidence.lines(STEP):
        for process, name, counts in counted(line):
            for count in of_noise(counts, FORWARD):
                if not count["level"]:
                    continue
                if "idle" not in count:
                    return f"step {line['step']}: {process} has no counts of single sites"
                if count["idle"] and _asked(evidence, name):
                    return f"step {line['step']}: {count['idle'][0]} in {process} changed nothing in {name}"
    return ""


def tokens_not_perturbed(evidence: Evidence) -> str:
    """Find a pass whose linears saw fewer tokens under noise than the step sampled or trained on.

    With verl's own counts of a step, T tokens in N sequences and R of them sampled: an actor's pass runs on T rows, a
    training pass on T for each optimizer epoch; a rollout on T - N rows (the last token of an answer is never fed) and
    its head on R. More is no fault: padding, recomputed activations, answers that dynamic sampling dropped.
    """
    for line in evidence.lines(STEP):
        step, told = line["step"], evidence.metrics.get(line["step"])
        if told is None:
            continue  # not written yet, or missing, which another check finds
        seen = _rows(line)
        for name in (ROLLOUT, OLD_LOG_PROB, TRAINING_FORWARD):
            if not _asked(evidence, name) or not any(of == name for of, _ in seen):
                continue  # or noise on other operators than linears
            if TOKENS not in told or RESPONSE not in told:
                return f"step {step}: no {TOKENS} or no {RESPONSE}, so nobody knows how many tokens there were"
            for part, wanted in _wanted(name, told, _sequences(line)).items():
                if (name, part) in seen and seen[name, part] < wanted:
                    return (
                        f"step {step}: {name} perturbed {seen[name, part]} rows at its {part}, {wanted} were computed"
                    )
    return ""


def noise_left_in_validation(evidence: Evidence) -> str:
    """Find a validation before which AQN's noise was not taken back from every weight that it is put on."""
    targets = {
        tuple(each["aqn"]["targets"]) for line in evidence.lines(BEGUN) for each in line["rollout"] if each.get("aqn")
    }
    for line in evidence.lines(VALIDATED) if targets else ():
        wanted = len(next(iter(targets)))
        if not line.get("taken_back"):
            return f"step {line['step']}: no worker says that AQN's noise was off while it validated"
        for done in line["taken_back"]:
            if done["updated"] or len(done["restored"]) != wanted:
                return f"step {line['step']}: validated with {len(done['restored'])} of {wanted} weights restored"
    return ""


def noisy_validation_was_clean(evidence: Evidence) -> str:
    """Find a validation that was to be noisy, under its own name, in which a process or a site changed nothing."""
    noise = evidence.recipe.noise
    if noise is None or VALIDATION not in noise.passes:
        return ""
    for line in evidence.lines(VALIDATED):
        for report in line["rollout"]:
            noisy = [count for count in of_noise(report["counts"], FORWARD) if count["level"]]
            asleep = [name for count in noisy for name in (*count["missing"], *count.get("idle", ()))]
            if asleep or not any(count["changed"] for count in noisy):
                return f"step {line['step']}: {asleep[0] if asleep else 'everything'} in {report['process']} was clean"
    return ""


def clean_validation_was_noisy(evidence: Evidence) -> str:
    """Find a clean validation of which nothing was counted at level 0, and rows under noise where none was asked for.

    The two validations of a step share a report, so that noise in the clean one looks like more of the noisy one.
    """
    noise = evidence.recipe.noise
    if noise is None or not (noise.in_rollout or VALIDATION in noise.passes):
        return ""
    for line in evidence.lines(VALIDATED):
        rows: Counter[bool] = Counter()
        for report in line["rollout"]:
            for count in of_noise(report["counts"], FORWARD):
                rows[count["level"] > 0] += count["rows"]
        if not rows[False]:
            return f"step {line['step']}: no token of the clean validation was counted at level 0"
        if rows[True] and VALIDATION not in noise.passes:
            return f"step {line['step']}: {rows[True]} rows of the validation were under noise, none was asked for"
    return ""


def _wanted(name: str, told: Mapping[str, float], sequences: int) -> dict[str, int]:
    tokens = round(told[TOKENS])
    if name != ROLLOUT:
        return {"linears": tokens, "head": tokens}
    return {"linears": tokens - sequences, "head": round(told[RESPONSE] * sequences)}


def _rows(line: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """The rows that noise acted on in a forward, by pass and part, added up over processes."""
    found: Counter[tuple[str, str]] = Counter()
    for _, name, counts in counted(line):
        for count in of_noise(counts, FORWARD):
            if count["op"] == ROWS_OF and count["level"] > 0:
                for part, rows in (("linears", count.get("fewest_rows")), ("head", count.get("head_rows"))):
                    if rows is not None:
                        found[name, part] += rows
    return found


def _sequences(line: Mapping[str, Any]) -> int:
    """The sequences of the step: those whose old log-probabilities every engine computed, else those it trained on."""
    passes = [report["passes"] for report in line["actor"]]
    for name in (OLD_LOG_PROB, TRAINING_FORWARD):
        found = sum(each[name]["sequences"] for each in passes if name in each)
        if found:
            return int(found)
    return 0


def _asked(evidence: Evidence, name: str) -> bool:
    """Whether noise that always changes something acts in the forward of the pass ``name``."""
    noise = evidence.recipe.noise
    return noise is not None and name in noise.passes and bool(noise.expected_error(name))
