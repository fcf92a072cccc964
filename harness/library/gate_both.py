"""Answers and distributions behind one ``harness gate``: where their runs lie, and what is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.baselines.book import find
from harness.baselines.file import Baseline
from harness.exceptions import HarnessError, NotComparableError
from harness.gates.divergence import DivergencePolicy, Measured, levels_alone
from harness.gates.joint import Sides
from harness.gates.policy import GatePolicy
from harness.gates.verdicts import INVALID, PASS
from harness.library.divergence import Candidate, evaluated, measured, reference_run
from harness.library.for_gate import GateEvaluation
from harness.progress import Watcher
from harness.runs.loaded import Run, check_complete, is_run, load_run
from harness.spec import parse_quantization

BESIDE = ".divergences"
"""What the folder of distributions has behind the name of the baseline, or of the run, beside which it lies."""


def beside_baseline(folder: Path, name: str) -> Path:
    """Return where the reference of distributions of the baseline called ``name`` lies, if it has one."""
    return find(folder, name).with_suffix(BESIDE)


def beside_run(run: Path) -> Path:
    """Return where the distributions of the checkpoint that made ``run`` lie, if they were recorded."""
    return run.with_name(run.name + BESIDE)


def reference_of(
    policy: GatePolicy, held: Baseline, named: Baseline | Path | str, given: Path | None, baselines: Path
) -> Run | None:
    """Return the reference of distributions for a gate against ``held``, None for a ``policy`` that asks for none: the
    ``given`` one, else the one beside the file of the baseline, as it was ``named`` in the folder ``baselines``.

    Raises :class:`HarnessError` where the policy asks for one and there is none, and where nothing would read it.
    """
    if policy.kl_margin is None:
        if given is not None:
            raise HarnessError(
                f"--divergences {given} without a kl_margin", "nothing would read it", "give --kl-margin"
            )
        return None
    folder = given
    if folder is None and not isinstance(named, Baseline):
        folder = beside_baseline(baselines, str(named))
    if folder is None or not is_run(folder):
        there = "none was given" if folder is None else f"{folder} is no run"
        raise HarnessError(
            f"kl_margin {policy.kl_margin:g} against baseline {held.name}",
            f"it needs a reference of distributions, and {there}",
            "make it of the baseline's run: harness divergence record RUN --out FOLDER; then give --divergences FOLDER",
        )
    return reference_run(folder, "--divergences")


def stored_half(target: Path, reference: Run) -> Sides:
    """Return the distributions beside the finished run ``target``. Raises :class:`NotComparableError` where there are
    none."""
    folder = beside_run(target)
    if not is_run(folder):
        raise NotComparableError(
            f"run {target} has no distributions beside it ({folder})",
            "the policy has a kl_margin, and half of the evidence is no evidence",
            f"give the checkpoint, or: harness divergence gate CHECKPOINT --reference {reference.path} --out {folder}",
        )
    return _sides(load_run(folder), reference)


def evaluated_half(
    target: Path, reference: Run, evaluation: GateEvaluation, out: Path, watcher: Watcher | None
) -> tuple[Run, Sides]:
    """Return the run of the checkpoint ``target`` on the reference's answers, beside its run of answers at ``out``, and
    both sides."""
    quantization = None if evaluation.quantize is None else parse_quantization(evaluation.quantize)
    asked = {name: getattr(evaluation, name) for name in ("engine", "dtype", "attention", "device")}
    how = Candidate(evaluation.base, evaluation.adapter, quantization, beside_run(out), **asked)
    run = evaluated(target, reference, how, evaluation.options, watcher)
    return run, _sides(run, reference)


def _sides(run: Run, reference: Run) -> Sides:
    check_complete(run)
    return Sides(measured(run), measured(reference))


def announce_distributions(
    reference: Measured, policy: GatePolicy, levels: Sequence[float], part: bool
) -> tuple[str, ...]:
    """Return what is to be warned of, and raise :class:`NotComparableError` where the reference cannot PASS against
    itself.

    A ``part`` of a baseline and early stopping may find damage where PASS is out of reach: that is only said.
    """
    rules = replace(DivergencePolicy.of(policy), across=None)
    for level in levels_alone(reference, reference, rules, levels):
        if level.verdict == PASS:
            continue
        why = f"level {level.level:g}: {level.reasons[0]}"
        if part and level.verdict != INVALID:
            return (f"PASS is out of reach: {why}; this check can only find damage",)
        raise NotComparableError(
            f"{reference.arm.label}: {level.verdict} is foregone, even if no distribution moved ({why})",
            "no checkpoint can show that it is unchanged here, so nothing was evaluated",
            "record a reference of more answers (--items) with this evidence, or change the policy",
        )
    return ()
