"""Reads what is known of the training of a checkpoint: one file beside its weights (standard library only).

``training.json`` holds the effective configuration (what was in force, not what was asked for), the training seed and
what proves it: a hash of the order in which the data came and the first losses. Without it an evaluation is as good as
ever, but its run cannot be a replicate of an experiment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.exceptions import CheckpointError, HarnessError
from harness.strict import Table, fill, read_object

FILE, ACTOR = "training.json", "actor"
"""The file, and the folder of the policy in a ``global_step_N`` of verl, beside whose weights it may lie."""

PROGRESS = ("step", "updates", "epochs")
"""How far the training went: these must agree between arms, whatever the factor is."""

DATA = ("dataset", "template")
Value = str | int | float | bool


@dataclass(frozen=True)
class TrainingRecord:
    """``config`` maps every effective setting (dotted names) to its value, the training seed left out.

    ``data_order`` is a hash of the order of the training items, ``initial_losses`` the losses of the first updates.
    ``dataset`` and ``template`` are hashes of what was trained on and how it was rendered. ``step``, ``updates`` and
    ``epochs`` say how far it went.
    """

    config: Mapping[str, Value]
    seed: int
    data_order: str
    initial_losses: tuple[float, ...]
    step: int
    updates: int
    epochs: float
    dataset: str
    template: str

    @property
    def configuration(self) -> str:
        """Return 16 hex digits: equal effective configurations, equal hashes."""
        text = json.dumps(dict(self.config), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self) | {"config": dict(self.config), "initial_losses": list(self.initial_losses)}

    @classmethod
    def from_json(
        cls, data: object, where: str = "training record", failure: type[HarnessError] = HarnessError
    ) -> TrainingRecord:
        """Return the inverse of :meth:`to_json`. Raises ``failure``, which names ``where`` and what is wrong."""
        table = Table(data, where, "write it again, or remove it", failure)
        found = fill(cls, table)
        if not found.initial_losses:
            raise table.fail("initial_losses", "at least one is needed")
        for name in ("seed", "step", "updates", "epochs"):
            if getattr(found, name) < 0:
                raise table.fail(f"{name} = {getattr(found, name)}", "it must be at least 0")
        return found


def load_training_record(checkpoint: Path) -> TrainingRecord | None:
    """Return the record in the folder ``checkpoint``, or in the ``actor`` of a step of verl; None where there is none.

    Raises :class:`CheckpointError` for a file that is damaged: a replicate that cannot be told is no replicate.
    """
    for file in (checkpoint / FILE, checkpoint / ACTOR / FILE):
        if file.is_file():
            return TrainingRecord.from_json(read_object(file), f"file {file}", CheckpointError)
    return None
