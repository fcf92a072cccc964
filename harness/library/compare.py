"""One call from the runs of two arms to whether they differ over their training seeds; behind ``harness compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.exceptions import StoreError
from harness.gates.arms import Replicate, ReplicatedArm
from harness.gates.compare import ArmComparison, compare_arms
from harness.gates.perplexity import refuse_continuous
from harness.runs.loaded import complete_run
from harness.runs.manifest import EvaluationManifest
from harness.training_record import TrainingRecord

ALPHA = 0.025


def compare(arms: Mapping[str, Sequence[Path | str]], factor: str | None = None, alpha: float = ALPHA) -> ArmComparison:
    """Compare two ``arms`` (name -> run folders, one per training seed) at every noise level that all runs have.

    ``factor`` is the one setting of the training in which they are meant to differ, ``alpha`` one-sided, for all levels
    together. What stands against a comparison is part of the result and no error.

    Raises :class:`harness.exceptions.HarnessError` for other than two arms, and for runs that cannot be read or are
    unfinished.
    """
    found = [ReplicatedArm(name, tuple(_replicate(Path(path)) for path in paths)) for name, paths in arms.items()]
    return compare_arms(found, factor, alpha)


def _replicate(path: Path) -> Replicate:
    run = complete_run(path)
    refuse_continuous(run.arm.key, f"run {path}")
    manifest = run.manifest if isinstance(run.manifest, EvaluationManifest) else None
    training = None if manifest is None else manifest.training
    where = f"run {path}: its training record"
    record = None if training is None else TrainingRecord.from_json(training, where, StoreError)
    return Replicate(run.arm, f"none: {path}" if manifest is None else manifest.identity.weights, record)
