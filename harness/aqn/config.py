"""All settings of AQN as data, and the hash of what they come to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.aqn.multipliers import Multipliers
from harness.aqn.schedule import Schedule
from harness.aqn.targets import NORMS, Targets
from harness.exceptions import HarnessError
from harness.strict import Table, fill

ABSOLUTE, RELATIVE = "absolute", "relative"
MODES = (ABSOLUTE, RELATIVE)
NORM_DTYPES = ("weights", "float32")
_SEEDS = 1 << 63


@dataclass(frozen=True)
class AqnConfig:
    """Everything that decides what is drawn and added.

    ``mode`` says what sigma is in: units of the weights (``absolute``), or of the spread of each weight (``relative``:
    std(w) of a matrix, the root mean square of a gain). ``norm_dtype`` float32 runs norms with float32 gains where the
    dtype of the weights would swallow sigma. ``force`` lets sigma exceed half of the spread.
    """

    schedule: Schedule
    targets: Targets = field(default_factory=Targets)
    multipliers: Multipliers = field(default_factory=Multipliers)
    mode: str = ABSOLUTE
    seed: int = 0
    norm_dtype: str = NORM_DTYPES[0]
    force: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (("mode", self.mode, MODES), ("norm_dtype", self.norm_dtype, NORM_DTYPES)):
            if value not in known:
                raise HarnessError(f"{name} {value!r}", f"it is one of {', '.join(known)}", "give one of them")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < _SEEDS:
            raise HarnessError(f"seed {self.seed!r}", "it is a whole number from 0 below 2**63", "give one")

    def multiplier(self, layer: int | None, step: int) -> float:
        """Return the factor of ``layer`` at ``step``."""
        return self.multipliers.of(layer, step / self.schedule.steps)

    def effective_hash(self, layers: Sequence[tuple[str, str, int | None]]) -> str:
        """Return 16 hex digits of what the settings do to the weights ``layers`` (name, kind, layer).

        Settings that act the same have the same hash, however they are written: it is taken over sigma times
        multiplier of every weight at every step (10 digits), mode, seed and dtype. Weights that never get any are left
        out. Raises :class:`HarnessError` where no weight ever gets any.
        """
        sigmas = self.schedule.values
        doses = {}
        for name, kind, layer in layers:
            asked = [sigma * self.multiplier(layer, step) for step, sigma in enumerate(sigmas)]
            if any(asked):
                wide = kind in NORMS and self.norm_dtype != NORM_DTYPES[0]
                doses[name] = [f"{value:.9e}" for value in asked] + (["float32"] if wide else [])
        if not doses:
            raise HarnessError(
                "an AQN of which no layer gets anything",
                "every multiplier of the matched layers is 0",
                "target other layers, or correct the multipliers",
            )
        text = json.dumps({"mode": self.mode, "seed": self.seed, "doses": doses}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary; :meth:`from_json` reads it."""
        schedule = self.schedule
        names = ("sigma_start", "sigma_end", "steps", "num_stages", "epochs")
        return {
            "schedule": {name: getattr(schedule, name) for name in names},
            "targets": self.targets.to_json(),
            "multipliers": self.multipliers.to_json(),
            "mode": self.mode,
            "seed": self.seed,
            "norm_dtype": self.norm_dtype,
            "force": self.force,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AqnConfig:
        """Return the inverse of :meth:`to_json`. Raises :class:`HarnessError` for a setting that nothing reads."""
        table = Table(data, "AQN settings")
        parts = {
            "schedule": fill(Schedule, table.table("schedule")),
            "targets": Targets.from_json(table.take("targets")) if "targets" in table else Targets(),
            "multipliers": Multipliers.from_json(table.take("multipliers", {})),
        }
        return fill(cls, table, given=parts)


def constant(sigma: float) -> Schedule:
    """Return the schedule of one ``sigma`` at steps 0 and 1, for a single copy."""
    return Schedule(sigma, sigma, 1, 1)
