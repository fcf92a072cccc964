"""What a run left behind, read back: verl's metrics, the ledger of every process, checkpoints (no torch, no verl)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.strict import read_object
from harness.training.check import RECIPE_FILE
from harness.training.launch import LEDGER, attempts_in, metrics_file, read_metrics
from harness.training.readback import FILE as READBACK
from harness.training.recipe import Recipe
from harness.training.render import CHECKPOINTS

BEGUN, STEP, VALIDATED = "begun", "step", "validated"
VALIDATION = "val-core/"
HUNG = 124
"""Exit status of a run that was killed because it fell silent, as timeout(1) has it."""


@dataclass(frozen=True)
class Evidence:
    """A run of ``recipe``: ``metrics`` by step, the lines of the ledger, steps with a checkpoint, verl's exit status.

    ``layers`` is the number of layers of the model. ``status`` None means that it runs still. ``reloaded`` is
    :class:`harness.training.readback.Readback` as a dictionary, None where no checkpoint was read back.
    """

    recipe: Recipe
    layers: int
    metrics: Mapping[int, Mapping[str, Any]]
    ledger: Sequence[Mapping[str, Any]]
    saved: tuple[int, ...]
    status: int | None
    reloaded: Mapping[str, Any] | None = None

    @property
    def steps(self) -> tuple[int, ...]:
        """Return the training steps that were done, in order."""
        return tuple(sorted(step for step in self.metrics if step > 0))

    def lines(self, kind: str) -> list[Mapping[str, Any]]:
        """Return the ledger's lines of ``kind``; of a step that was done twice (a resumed run) the last."""
        last = {line["step"]: line for line in self.ledger if line["kind"] == kind}
        return [last[step] for step in sorted(last)]

    def values(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of the metric ``name``, in order."""
        return [(step, float(self.metrics[step][name])) for step in sorted(self.metrics) if name in self.metrics[step]]

    def validations(self) -> list[tuple[int, float]]:
        """Return (step, mean score) of every clean validation, step 0 among them."""
        found = []
        for step in sorted(self.metrics):
            scores = [value for name, value in self.metrics[step].items() if name.startswith(VALIDATION)]
            if scores:
                found.append((step, float(scores[0])))
        return found


def counted(line: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Yield (process, pass, summarised counts) of a step's line; quantizers' counts are among them."""
    for report in line.get("actor", ()):
        for name, done in report["passes"].items():
            yield report["process"], name, done["counts"]
    for report in line["rollout"]:
        yield report["process"], "rollout", report["counts"]


def read_evidence(folder: Path, layers: int, status: int | None) -> Evidence:
    """Return what the run in ``folder`` left so far. Raises :class:`HarnessError` for a recipe that is damaged."""
    recipe = Recipe.from_json(read_object(folder / RECIPE_FILE))
    metrics: dict[int, Mapping[str, Any]] = {}
    for attempt in range(1, attempts_in(folder) + 1):
        for step, told in read_metrics(metrics_file(folder, attempt)):
            metrics[step] = told
    reloaded = read_object(folder / READBACK) if (folder / READBACK).is_file() else None
    return Evidence(recipe, layers, metrics, _read_ledger(folder / LEDGER), saved_in(folder), status, reloaded)


def saved_in(folder: Path) -> tuple[int, ...]:
    """Return the steps of which the run in ``folder`` has a checkpoint."""
    found = (path.parent.name.rpartition("_")[2] for path in (folder / CHECKPOINTS).glob("global_step_*/actor"))
    return tuple(sorted(int(step) for step in found if step.isdecimal()))


def _read_ledger(file: Path) -> list[Mapping[str, Any]]:
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # still being written
    return found
