"""What a checkpoint says of the training it came from: one file beside its weights (standard library only).

``training.json`` holds the effective configuration (what was in force, not what was asked for), the training seed and
what proves it: a hash of the order in which the data came and the first losses. Without it an evaluation is as good as
ever, but its run cannot be a replicate of an experiment.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.exceptions import CheckpointError
from harness.strict import read_object

FILE = "training.json"
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
        """16 hex digits: equal effective configurations, equal hashes."""
        text = json.dumps(dict(self.config), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self) | {"config": dict(self.config), "initial_losses": list(self.initial_losses)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingRecord:
        """The inverse of :meth:`to_json`. Raises ValueError naming what is wrong."""
        names = [f.name for f in fields(cls)]
        wrong = [*(name for name in names if name not in data), *(name for name in data if name not in names)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is {'missing' if wrong[0] in names else 'unknown'}")
        config, losses = data["config"], data["initial_losses"]
        if not isinstance(config, dict) or not all(isinstance(value, Value) for value in config.values()):
            raise ValueError("config is no flat mapping of names to text, numbers and truth values")
        if not isinstance(losses, list) or not losses or not all(_finite(loss) for loss in losses):
            raise ValueError("initial_losses is no list of finite numbers")
        for name in ("seed", "step", "updates"):
            if isinstance(data[name], bool) or not isinstance(data[name], int) or data[name] < 0:
                raise ValueError(f"{name} {data[name]!r} is no whole number from 0 up")
        if not _finite(data["epochs"]):
            raise ValueError(f"epochs {data['epochs']!r} is no number")
        for name in ("data_order", *DATA):
            if not isinstance(data[name], str) or not data[name]:
                raise ValueError(f"{name} {data[name]!r} is no text")
        return cls(**{**data, "initial_losses": tuple(map(float, losses)), "epochs": float(data["epochs"])})


def load_training_record(checkpoint: Path) -> TrainingRecord | None:
    """The record in the folder ``checkpoint``, None where there is none.

    Raises :class:`CheckpointError` for a file that is damaged: a replicate that cannot be told is no replicate.
    """
    file = checkpoint / FILE
    if not file.is_file():
        return None
    data = read_object(file)
    try:
        return TrainingRecord.from_json(data)
    except ValueError as error:
        raise CheckpointError(f"file {file}", str(error), "write it again, or remove it") from None


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
