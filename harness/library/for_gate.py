"""What a gate evaluates a checkpoint with: its baseline's own specification, changed only where the gate says so."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.baselines.file import Baseline, dump
from harness.checkpoints.modes import MERGED
from harness.exceptions import HarnessError, NotComparableError
from harness.gates import GateResult
from harness.gates.early import EarlyPlan, check_independent, plan_of
from harness.gates.policy import GatePolicy
from harness.gates.quick import QuickCheck
from harness.revision import FILES, MEASURING, revision
from harness.runs.loaded import Run
from harness.runs.manifest import EvaluationManifest, digest
from harness.spec import EngineOptions, EvalSpec, parse_quantization

if TYPE_CHECKING:
    from harness.checkpoints.source import Source

RUNS = Path("runs")
PROMPTING = ("fewshot", "fewshot_data", "system", "apply_chat_template")
CHANGES = ("data", "engine", "dtype", "attention", *PROMPTING, "quantize")
"""What a gate may evaluate otherwise than its baseline was."""


@dataclass(frozen=True)
class GateEvaluation:
    """How a gate evaluates a checkpoint; what is None is as in the baseline's own specification.

    ``base`` and ``adapter`` are those of :class:`harness.checkpoints.source.CheckpointRef`, ``data`` is a file of the
    task's items, ``fewshot``, ``fewshot_data``, ``system`` and ``apply_chat_template`` are those of
    :class:`harness.spec.EvalSpec`, ``quantize`` the text of :func:`harness.spec.parse_quantization`. ``out`` is the
    run folder (default: one under ``runs`` that the same evaluation resumes). ``items`` and ``noise_seeds`` declare a
    quick check on that many of the baseline's (:class:`harness.gates.quick.QuickCheck`), ``budget`` one on as many as
    tell most within that many seconds (:mod:`harness.evaluate.within`), counted from ``begun`` on the clock of
    :func:`time.monotonic` (None: from the call on). ``divergences`` is the reference of distributions for a policy with
    a ``kl_margin`` (default: the one beside the baseline's file). No result depends on ``options`` and ``device``.
    Raises :class:`HarnessError` where a budget stands beside the numbers that it plans.
    """

    base: Path | None = None
    adapter: str = MERGED
    data: str | None = None
    engine: str | None = None
    dtype: str | None = None
    attention: str | None = None
    quantize: str | None = None
    fewshot: int | None = None
    fewshot_data: str | None = None
    system: str | None = None
    apply_chat_template: bool | None = None
    out: Path | None = None
    items: int | None = None
    noise_seeds: int | None = None
    divergences: Path | None = None
    options: EngineOptions = field(default_factory=EngineOptions)
    device: str | None = None
    budget: float | None = None
    begun: float | None = None

    def __post_init__(self) -> None:
        """Check what contradicts."""
        for name, value in (("items", self.items), ("noise-seeds", self.noise_seeds)):
            if self.budget is not None and value is not None:
                raise HarnessError(
                    f"--{name} {value} with --budget {self.budget:g}",
                    "the budget plans that number",
                    "leave one of them out",
                )

    def started(self) -> GateEvaluation:
        """Return the same with the beginning of its budget: now, where nobody has said it."""
        return self if self.begun is not None else replace(self, begun=time.monotonic())


def baseline_spec(baseline: Baseline) -> EvalSpec:
    """Return the baseline's own evaluation specification. Raises :class:`NotComparableError` where it has none."""
    if baseline.spec is None:
        raise NotComparableError(
            f"baseline {baseline.name} is external, uncertified",
            "it holds no evaluation specification to repeat",
            "score the checkpoint's completions with harness score and gate that run",
        )
    return EvalSpec.from_json(dict(baseline.spec))


def order_seed_of(baseline: Baseline) -> int:
    """Return the seed of the items' random order under early stopping: that of the baseline's choice of items."""
    return 0 if baseline.spec is None else int(baseline.spec["item_seed"])


def quick_check(baseline: Baseline, items: int | None, noise_seeds: int | None) -> QuickCheck | None:
    """Return the quick check that is declared, ``None`` where none is, or where it would be the whole baseline.

    Raises :class:`HarnessError` for more than ``baseline`` has, and :class:`NotComparableError` where it has no
    order of its own.
    """
    if items is None and noise_seeds is None:
        return None
    return QuickCheck.declared(baseline.arm, baseline_spec(baseline).item_seed, items, noise_seeds)


def asked_of(baseline: Baseline, quick: QuickCheck | None) -> Baseline:
    """Return what of ``baseline`` is judged: the part that ``quick`` declares, all of it where it is ``None``."""
    return baseline if quick is None else replace(baseline, arm=quick.part_of(baseline.arm))


def check_part(run: Run, baseline: Baseline, quick: QuickCheck | None) -> None:
    """Raise :class:`NotComparableError` where ``run`` is not of the part of ``baseline`` that ``quick`` declares."""
    if quick is not None:
        items = run.asked.items if isinstance(run.manifest, EvaluationManifest) else None
        quick.check(run.arm, baseline.arm, items)


def said_of(result: GateResult, quick: QuickCheck | None) -> GateResult:
    """Return ``result``, which says so where ``quick`` declares a part of the baseline."""
    return result if quick is None else quick.said(result)


def early_plan(policy: GatePolicy, baseline: Baseline) -> EarlyPlan | None:
    """Return the rule by which an evaluation for a gate against ``baseline`` stops early, ``None`` without it.

    Raises :class:`HarnessError` where ``policy`` asks for it and the baseline's items share their draws.
    """
    levels = policy.levels or tuple(baseline.arm.outcomes)
    plan = plan_of(policy, levels, order_seed_of(baseline), digest(dump(baseline)))
    if plan is not None:
        check_independent(plan, baseline.arm)
    return plan


def default_run_folder(
    checkpoint: Path | Source, spec: EvalSpec, folder: Path = RUNS, plan: EarlyPlan | None = None, budget: str = ""
) -> Path:
    """Return where a gate keeps its evaluation: the same checkpoint (of a hub: its commit), data, specification, rule
    of early stopping, ``budget`` (with all that its plan follows from, as text) and sources of the harness resume the
    same folder."""
    from harness.checkpoints.source import as_source

    content = "" if spec.data is None else _content(spec.data)
    source = as_source(checkpoint)
    parts = [source.weights, source.settings, content, json.dumps(spec.to_json()), revision(MEASURING, FILES)]
    parts += [] if spec.fewshot_data is None else [_content(spec.fewshot_data)]
    parts += [] if plan is None else [json.dumps(plan.to_json())]
    parts += [budget] if budget else []
    parts += [json.dumps(source.pinned, sort_keys=True)] if source.pinned else []
    label = digest("|".join(parts))
    return folder / f"gate-{source.name}-{label}"


def _content(file: str) -> str:
    """SHA-256 of a data file, empty where there is none of the name."""
    path = Path(file)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def refuse_changes(target: Path, given: Mapping[str, Any], names: Sequence[str] = ("base", *CHANGES)) -> None:
    """Raise :class:`HarnessError` where ``given`` asks ``target``, a finished run, for another evaluation."""
    for name in names:
        if given[name] is not None:
            option = f"--{name.replace('_', '-')}"
            rule, way_out = f"{target} is a run, made as it was made", f"leave {option} out, or give the checkpoint"
            raise HarnessError(f"{option} {given[name]}", rule, way_out)


def changed(spec: EvalSpec, given: Mapping[str, Any], quick: QuickCheck | None = None) -> EvalSpec:
    """Return ``spec`` with what ``given`` says of :data:`CHANGES` in place of its own, and on the part of ``quick``."""
    changes = {name: given[name] for name in CHANGES if name != "quantize" and given[name] is not None}
    if given["quantize"] is not None:
        changes["quantization"] = parse_quantization(given["quantize"])
    if quick is not None:
        changes |= {"items": quick.items, "noise_seeds": quick.noise_seeds}
    return replace(spec, **changes)
