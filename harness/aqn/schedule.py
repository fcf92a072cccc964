"""The schedule of AQN's sigma over the steps of a training run (no torch).

A run of ``steps`` steps has the points 0 to ``steps``. Each epoch is cut into ``num_stages`` equal stages: the first is
a warm-up with sigma 0, the others fall exponentially from the sigma that the epoch begins with to the one it ends with.
The epochs' boundaries lie on one exponential from ``sigma_start`` to ``sigma_end``. One stage is a constant sigma
without a warm-up. Source: QeRL, with the faults of its descendants left out (0/0 for two stages, 0**0 for a last sigma
of 0, an empty list for one stage, sigma 0 at the last step of epoch-aware schedules).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.exceptions import HarnessError

NUM_STAGES, STAGES_PER_EPOCH = 10, 5
"""What the sources take where nothing is said."""


@dataclass(frozen=True)
class Schedule:
    """Sigma at every step from 0 to ``steps``.

    ``num_stages`` are those of each epoch; one epoch is the global schedule. Raises :class:`HarnessError` for every
    setting that cannot be met: sigmas that are not finite and above 0 or that grow, one or two stages with different
    sigmas, fewer steps than stages.
    """

    sigma_start: float
    sigma_end: float
    steps: int
    num_stages: int = NUM_STAGES
    epochs: int = 1

    def __post_init__(self) -> None:
        for name in ("sigma_start", "sigma_end"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise HarnessError(f"{name} {value!r}", "it is a finite number above 0", "give one, such as 0.05")
        for name in ("steps", "num_stages", "epochs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise HarnessError(f"{name} {value!r}", "it is a whole number from 1 up", "give one")
        if self.sigma_end > self.sigma_start:
            raise HarnessError(
                f"sigma_end {self.sigma_end:g} above sigma_start {self.sigma_start:g}",
                "the noise of AQN decays",
                "swap the two",
            )
        if self.num_stages <= 2 and self.sigma_end != self.sigma_start:
            raise HarnessError(
                f"{_stages(self.num_stages)}{' in each epoch' if self.epochs > 1 else ''} from sigma "
                f"{self.sigma_start:g} to {self.sigma_end:g}",
                "one stage is a constant sigma and two are a warm-up and a constant one",
                "give equal sigmas, or 3 stages and more",
            )
        if self.steps < self.num_stages * self.epochs:
            raise HarnessError(
                f"{self.steps} step{'' if self.steps == 1 else 's'} for {_stages(self.num_stages * self.epochs)}",
                "every stage takes a step at least",
                "give more steps or fewer stages",
            )

    def place(self, step: int) -> tuple[int, int]:
        """Return (epoch, stage) of ``step``, both from 0; the last step belongs to the last stage.

        Raises :class:`HarnessError` for a step outside the run: a schedule that is at its end there is a guess.
        """
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= self.steps:
            raise HarnessError(
                f"step {step!r}", f"the schedule has steps 0 to {self.steps}", "make it as long as the run"
            )
        epoch = min(step * self.epochs // self.steps, self.epochs - 1)
        into = step * self.epochs - epoch * self.steps  # in units of 1 / epochs of a step, so that nothing is rounded
        return epoch, min(into * self.num_stages // self.steps, self.num_stages - 1)

    def sigma(self, step: int) -> float:
        """Return sigma at ``step``, in units of the weights (absolute mode) or of their deviation (relative mode)."""
        epoch, stage = self.place(step)
        if self.num_stages == 1:
            return self.sigma_start
        if stage == 0:
            return 0.0
        start, end = self.epoch_sigmas(epoch)
        return between(start, end, stage - 1, self.num_stages - 2)

    def epoch_sigmas(self, epoch: int) -> tuple[float, float]:
        """Return the first and the last sigma of ``epoch`` (from 0)."""
        first, last = (between(self.sigma_start, self.sigma_end, at, self.epochs) for at in (epoch, epoch + 1))
        return first, last

    @property
    def values(self) -> tuple[float, ...]:
        """Sigma at steps 0 to ``steps``: ``steps`` + 1 values."""
        return tuple(self.sigma(step) for step in range(self.steps + 1))

    @property
    def clean(self) -> tuple[tuple[int, int], ...]:
        """The warm-up stages as (first step, last step): a validation there is clean by accident."""
        return tuple((first, last) for first, last, sigma in self.stretches() if sigma == 0)

    def stretches(self) -> Iterator[tuple[int, int, float]]:
        """Yield (first step, last step, sigma) for every stage, in order."""
        first = 0
        for step in range(1, self.steps + 2):
            if step > self.steps or self.place(step) != self.place(first):
                yield first, step - 1, self.sigma(first)
                first = step

    def to_json(self) -> dict[str, Any]:
        """Return the settings and what they give: ``sigma`` lists steps 0 to ``steps``."""
        return {
            "sigma_start": self.sigma_start,
            "sigma_end": self.sigma_end,
            "steps": self.steps,
            "num_stages": self.num_stages,
            "epochs": self.epochs,
            "sigma": list(self.values),
            "clean_steps": [list(each) for each in self.clean],
        }


def _stages(count: int) -> str:
    return f"{count} stage{'' if count == 1 else 's'}"


def between(start: float, end: float, at: int, of: int) -> float:
    """Return the value number ``at`` (0 to ``of``) on the exponential from ``start`` to ``end``, both met exactly."""
    if at == 0 or start == end:
        return start
    if at == of:
        return end
    low, high = math.log(end), math.log(start)
    return min(start, max(end, math.exp(high + (low - high) * at / of)))


def resolve_stages(num_stages: int | None, epochs: int | None, stages_per_epoch: int | None) -> tuple[int, int]:
    """Return (stages of each epoch, epochs) out of what a user gave; None where nothing was.

    Raises :class:`HarnessError` where two of them disagree: one would be read by nobody.
    """
    if epochs is None:
        if stages_per_epoch is not None:
            raise HarnessError(
                f"--stages-per-epoch {stages_per_epoch} without --epochs", "a global schedule has none", "add --epochs"
            )
        return (NUM_STAGES if num_stages is None else num_stages), 1
    if epochs < 1:
        raise HarnessError(f"--epochs {epochs}", "it is a whole number from 1 up", "give one")
    if stages_per_epoch is None:
        stages_per_epoch = STAGES_PER_EPOCH if num_stages is None else num_stages // epochs
    if num_stages is not None and num_stages != epochs * stages_per_epoch:
        raise HarnessError(
            f"--num-stages {num_stages} with {epochs} epochs of {stages_per_epoch} stages",
            "an epoch-aware schedule has epochs times stages per epoch",
            f"drop --num-stages, or give {epochs * max(1, stages_per_epoch)}",
        )
    return stages_per_epoch, epochs
