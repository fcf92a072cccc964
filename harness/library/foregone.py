"""Verdicts that are known before a checkpoint is evaluated: said, or refused, before a model is loaded.

The baseline is judged against itself by the very rules of the gate. What does not PASS where nothing was lost and
nothing gained is not going to PASS because a model was run: the margin is too narrow for so many items, the baseline is
at the floor, its seeds are too few for the policy, or its evidence is not what a verdict needs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.baselines.file import Baseline
from harness.exceptions import NotComparableError
from harness.gates import gate
from harness.gates.forecast import ASSUMED_DISCORDANCE, forecast, forecast_tasks, joint_sentence
from harness.gates.forecast_divergence import both_sentence, forecast_divergences
from harness.gates.keys import PROMPT_FIELDS, key_differences
from harness.gates.nats import LEAST_DOCUMENTS
from harness.gates.policy import GatePolicy
from harness.gates.result import GateResult
from harness.gates.tasks import gate_tasks
from harness.gates.verdicts import INVALID, PASS
from harness.library.divergence import measured
from harness.library.for_gate import order_seed_of
from harness.library.gate_both import announce_distributions
from harness.runs.dequantized import FIELD as DEQUANTIZED
from harness.runs.loaded import Run
from harness.spec import EvalSpec, quantization_text

log = logging.getLogger(__name__)


def refuse_other_key(
    spec: EvalSpec, held: Baseline, given: Mapping[str, Any], across: str | None, checkpoint: Path
) -> None:
    """Raise :class:`NotComparableError` where an evaluation by ``spec`` would have another measurement key than the
    baseline in a field that is known without the model. ``given`` is what was asked to differ, ``across`` the declared
    axis; of ``checkpoint`` its configuration is read, if it is there."""
    quantization = quantization_text(spec.quantization, _stored(checkpoint))
    known = {"engine": spec.engine, "dtype": spec.dtype, "quantization": quantization}
    if given.get("attention") in ("eager", "sdpa") and given.get("engine") is None:
        known["attention"] = given["attention"]
    if across == "noise":  # an evaluation takes the baseline's own, so that it is for runs
        known["noise"] = str(spec.noise)
    if given.get("data") is not None:
        from harness.evaluate.tasks import load_task

        known["dataset"] = load_task(spec.task, Path(given["data"])).dataset_hash()
    theirs = {name: held.arm.key[name] for name in known if name in held.arm.key}
    ours = {name: known[name] for name in theirs}
    asked = {name: held.arm.key[name] for name in PROMPT_FIELDS if name in held.arm.key}
    if asked or spec.fewshot or spec.system is not None or spec.apply_chat_template is not None:
        from harness.evaluate.prompting import prompting_of
        from harness.evaluate.tasks import load_task

        task = load_task(spec.task, None if spec.data is None else Path(spec.data))
        ours, theirs = ours | prompting_of(spec, task).key, theirs | asked
    differing = key_differences(ours, theirs, across if across in ours else None) if ours or theirs else ()
    if differing:
        raise NotComparableError(
            f"{'; '.join(differing)}",
            "the verdict would be INVALID, so nothing was evaluated",
            "evaluate as the baseline was, or declare with --across the one axis that differs",
        )


def _stored(checkpoint: Path) -> str | None:
    """How the weights are stored, where the configuration of ``checkpoint`` says that they are quantized."""
    file = checkpoint / "config.json"
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    if "quantization_config" not in text and DEQUANTIZED not in text:
        return None
    from harness.checkpoints.dequantized import dequantized_from
    from harness.checkpoints.stored_quantization import stored_quantization

    found = stored_quantization(checkpoint) or dequantized_from(checkpoint)
    return None if found is None else found.text


def check_within_reach(held: Baseline, policy: GatePolicy) -> None:
    """Raise :class:`NotComparableError` where PASS is out of reach even on the whole baseline."""
    found = gate(held.arm, held.arm, _bare(policy), order_seed_of(held))
    if found.verdict != PASS:
        _foregone(held, found, False)


def announce(held: Baseline, policy: GatePolicy, part: bool, reference: Run | None = None) -> None:
    """Log the joint odds of the gate if nothing changed, and raise :class:`NotComparableError` where PASS is out of
    reach; ``reference`` holds the distributions where these are judged too.

    A ``part`` of a baseline (a quick check) and early stopping may be too small for PASS and still find damage: that is
    only said.
    """
    levels = sorted(policy.levels or held.arm.outcomes)
    if reference is not None:
        for words in announce_distributions(measured(reference), policy, levels, part or bool(policy.early_stop)):
            log.warning("%s", words)
    found = gate(held.arm, held.arm, _bare(policy), order_seed_of(held))
    if found.verdict == PASS:
        log.info("%s", _odds(held, policy, levels, reference))
        if policy.min_retention is not None or policy.retentions:
            rules = replace(policy.on_answers, bootstrap_resamples=0, across=None)
            _announce_retention(gate(held.arm, held.arm, rules, order_seed_of(held)))
        return
    _foregone(held, found, part or bool(policy.early_stop))


def _odds(held: Baseline, policy: GatePolicy, levels: Sequence[float], reference: Run | None) -> str:
    """The joint odds in words."""
    if reference is None:
        return joint_sentence(forecast(held.arm, policy))
    beside = forecast_divergences(measured(reference), policy, levels)
    return both_sentence(forecast(held.arm, policy, family=2 * len(levels)), beside)


def announce_tasks(held: Mapping[str, Baseline], policy: GatePolicy, part: bool) -> None:
    """Do as :func:`announce` for the baselines of several tasks that are judged together."""
    found = gate_tasks({task: (each.arm, each.arm) for task, each in held.items()}, _bare(policy))
    for task, result in found.results.items():
        if result.verdict != PASS:
            _foregone(held[task], result, part)
    if found.verdict == PASS:
        log.info("%s", together_sentence(held, policy))


def together_sentence(
    held: Mapping[str, Baseline], policy: GatePolicy, discordance: float = ASSUMED_DISCORDANCE
) -> str:
    """Return the joint odds of a gate over several tasks if nothing changed, in words."""
    foreseen = forecast_tasks({task: each.arm for task, each in held.items()}, policy, discordance)
    return joint_sentence([level for own in foreseen.values() for level in own], len(held))


def _bare(policy: GatePolicy) -> GatePolicy:
    """The rules without what says nothing of a baseline against itself."""
    return replace(policy.on_answers, bootstrap_resamples=0, min_retention=None, retentions=(), across=None)


def _foregone(held: Baseline, found: GateResult, may_find_damage: bool) -> None:
    """Refuse a gate that ``found`` cannot PASS, or say so."""
    if may_find_damage and found.verdict != INVALID:
        log.warning("PASS is out of reach: %s; this check can only find damage", _why(found))
        return
    raise NotComparableError(
        f"{held.arm.label}: {found.verdict} is foregone, even if nothing is lost and nothing gained ({_why(found)})",
        "no checkpoint can show that it is unchanged here, so nothing was evaluated",
        _way_out(found),
    )


def _announce_retention(found: GateResult) -> None:
    """Warn where an unchanged checkpoint would not PASS: one that keeps more of its accuracy still can."""
    level = next((level for level in found.levels if level.verdict == found.verdict), None)
    if found.verdict != PASS and level is not None:
        words = f"{found.verdict} at level {level.level:g}: {'; '.join(level.reasons)}"
        log.warning("a checkpoint that is as the baseline is would be %s", words)


def _why(found: GateResult) -> str:
    level = next(level for level in found.levels if level.verdict == found.verdict) if found.levels else None
    return found.reasons[0] if level is None else f"level {level.level:g}: {level.reasons[0]}"


def _way_out(found: GateResult) -> str:
    """What would be enough: the narrowest margin that the interval without any change leaves, or another baseline."""
    if any(level.nats is not None and level.nats.effective < LEAST_DOCUMENTS for level in found.levels):
        return f"accept a baseline of {LEAST_DOCUMENTS} documents or more, of about one length"
    open_to = [-level.difference.low for level in found.levels if level.difference is not None]
    if found.verdict == INVALID or not open_to:
        return "accept a baseline that has this evidence, or change the policy"
    enough = math.ceil(10_000 * max(open_to)) / 10_000
    return f"give a margin of {enough:g} or more, or a baseline of more items and noise seeds"
