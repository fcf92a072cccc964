"""Where in a run a sabotage acts, and the engine's own functions, wrapped as a bad change would leave them.

Nothing here is a mock: the honest code runs, and what it gives is altered before it is used. Counting goes on as it
would, so that the ledger alone sees nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.noise import kernel, session
from harness.noise.kernel import _measure
from harness.noise.session import NoiseSession
from harness.numerics.keyed_random import DrawKey, normals
from harness.spec.errors import RelativeGaussian

LETHAL = 0.5
"""Strengths from here on are the positive control's, which a careful saboteur leaves alone."""


@dataclass(frozen=True)
class Place:
    """Where a result was made: ``level`` of its batch, ``batch`` the number of that batch at its level (from 0),
    ``step`` the number of the forward within the batch (0 is the prefill), ``seeds`` those of the rows that are left.
    """

    level: float
    batch: int
    step: int
    seeds: tuple[int, ...]

    @property
    def decoding(self) -> bool:
        """True behind the prefill."""
        return self.step > 0

    @property
    def evaluated(self) -> bool:
        """True for the noisy batches of the evaluation, False for clean ones and the positive control."""
        return 0 < self.level < LETHAL


class Whereabouts:
    """Follows the batches of a session by wrapping :meth:`NoiseSession.batch`, ``select`` and ``begin``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place: Place | None = None
        self.items: tuple[str, ...] = ()
        self._begun: dict[float, int] = {}
        honest_batch, honest_select, honest_begin = NoiseSession.batch, NoiseSession.select, NoiseSession.begin
        here = self

        @contextlib.contextmanager
        def batch(self: NoiseSession, items: Sequence[str], seeds: Sequence[int], scale: float, *rest: Any) -> Any:
            here._enter(items, seeds, scale)
            with honest_batch(self, items, seeds, scale, *rest):
                yield self
            here.place = None

        def select(self: NoiseSession, kept: Tensor) -> None:
            honest_select(self, kept)
            here._keep([int(index) for index in kept])

        def begin(self: NoiseSession, *given: Any) -> Any:
            here._step()
            return honest_begin(self, *given)

        monkeypatch.setattr(NoiseSession, "batch", batch)
        monkeypatch.setattr(NoiseSession, "select", select)
        monkeypatch.setattr(NoiseSession, "begin", begin)

    def _enter(self, items: Sequence[str], seeds: Sequence[int], level: float) -> None:
        number = self._begun.get(level, 0)
        self._begun[level] = number + 1
        self.items = tuple(items)
        self.place = Place(level, number, -1, tuple(seeds))

    def _keep(self, kept: Sequence[int]) -> None:
        if self.place is not None:
            self.items = tuple(self.items[index] for index in kept)
            seeds = tuple(self.place.seeds[index] for index in kept)
            self.place = Place(self.place.level, self.place.batch, self.place.step, seeds)

    def _step(self) -> None:
        if self.place is not None:
            self.place = Place(self.place.level, self.place.batch, self.place.step + 1, self.place.seeds)


After = Callable[[Any, Place, Tensor, Tensor], Tensor]
"""What becomes of (site, place, result, result with noise)."""


def after_counting(monkeypatch: pytest.MonkeyPatch, change: After) -> Whereabouts:
    """Has every counted result of the evaluation's noisy batches replaced by what ``change`` makes of it."""
    here = Whereabouts(monkeypatch)
    honest = NoiseSession.result

    def result(self: NoiseSession, site: Any, y: Tensor) -> Tensor:
        if here.place is None or not here.place.evaluated:
            return honest(self, site, y)
        own = y.clone()
        return change(site, here.place, own, honest(self, site, y))

    monkeypatch.setattr(NoiseSession, "result", result)
    return here


def lost(monkeypatch: pytest.MonkeyPatch, where: Callable[[Any, Place], bool]) -> None:
    """Counts the noise and does not let it out ``where`` this is True."""
    after_counting(monkeypatch, lambda site, place, y, noisy: y if where(site, place) else noisy)


def drawn(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    """Turns every standard normal draw of the evaluation into ``change`` of it, and measures what that does."""
    honest = kernel.Kernel.perturb

    def perturb(self: Any, error: Any, y: Tensor, key: DrawKey, level: float, real: Tensor, *own: Any) -> Any:
        if not 0 < level < LETHAL or not isinstance(error, RelativeGaussian):
            return honest(self, error, y, key, level, real, *own)
        after = (y.float() * (1 + level * change(normals(*key)))).to(y.dtype)
        return after, _measure(y, after, real)

    monkeypatch.setattr(kernel.Kernel, "perturb", perturb)


Keyed = Callable[[list[str], list[int]], tuple[list[str], list[int]]]


def keyed(monkeypatch: pytest.MonkeyPatch, change: Keyed) -> None:
    """Keys the rows of a batch by what ``change`` makes of their items and seeds."""
    honest = session.row_bases

    def bases(items: Sequence[str], seeds: Sequence[int], key: str = "item") -> Tensor:
        return honest(*change(list(items), list(seeds)), key)

    monkeypatch.setattr(session, "row_bases", bases)


@contextlib.contextmanager
def same_generator() -> Iterator[None]:
    """Leaves the global generator as it was, so that a planted draw is all that a sabotage changes."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
