"""Noise and quantization of an evaluation together: one session for the noise, one for each quantized part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from harness.noise.plan import InjectionPlan
from harness.noise.session import NoiseSession
from harness.record import QUANTIZER, SiteCount
from harness.runs.quantized import quantized_op
from harness.spec import ErrorModel

ON = 1.0
"""The strength of a quantization, which is on or off."""


class Injecting(Protocol):
    """What generation and its callers need of a session: a single one, or :class:`Sessions`."""

    def batch(
        self,
        items: Sequence[str],
        seeds: Sequence[int],
        scale: float,
        error: ErrorModel | None = None,
        prompts: Sequence[int] | None = None,
    ) -> contextlib.AbstractContextManager[object]:
        """Name the sequences of a batch: :meth:`NoiseSession.batch`."""

    def select(self, kept: Tensor) -> None:
        """Keep some of them: :meth:`NoiseSession.select`."""

    def narrowed(self, kept: Tensor, prompts: Sequence[int] | None = None) -> contextlib.AbstractContextManager[object]:
        """Keep some of them for a while: :meth:`NoiseSession.narrowed`."""


@dataclass(frozen=True)
class Sessions:
    """Open sessions on one model. The quantizers act at every level, also where the noise has strength 0."""

    noise: NoiseSession
    quantizers: tuple[NoiseSession, ...]

    @contextlib.contextmanager
    def batch(
        self,
        items: Sequence[str],
        seeds: Sequence[int],
        scale: float,
        error: ErrorModel | None = None,
        prompts: Sequence[int] | None = None,
    ) -> Iterator[None]:
        """Do as :meth:`NoiseSession.batch`; a quantizer that draws has one seed, so that its weights are one chip's."""
        with contextlib.ExitStack() as stack:
            for session in self.quantizers:
                stack.enter_context(session.batch(items, [0] * len(items), ON))
            stack.enter_context(self.noise.batch(items, seeds, scale, error, prompts))
            yield

    def select(self, kept: Tensor) -> None:
        """Do as :meth:`NoiseSession.select`."""
        for session in (*self.quantizers, self.noise):
            session.select(kept)

    @contextlib.contextmanager
    def narrowed(self, kept: Tensor, prompts: Sequence[int] | None = None) -> Iterator[None]:
        """Do as :meth:`NoiseSession.narrowed`."""
        with contextlib.ExitStack() as stack:
            for session in (*self.quantizers, self.noise):
                stack.enter_context(session.narrowed(kept, prompts))
            yield

    def drain(self, level: float) -> list[SiteCount]:
        """Return everything counted since the last call, all of it booked under the noise level ``level``."""
        counts = list(self.noise.ledger.drain(level).values())
        for session in self.quantizers:
            point = session.plan.spec.at
            counts += [
                replace(count, level=level, op=quantized_op(count.op, point), kind=QUANTIZER)
                for count in session.ledger.drain(ON).values()
            ]
        return counts


@contextlib.contextmanager
def open_sessions(
    model: object, plan: InjectionPlan, quantizers: Sequence[InjectionPlan], *, in_place: bool = False
) -> Iterator[Sessions]:
    """Open the sessions: quantization first, so that the noise falls on what a quantized model computes."""
    with contextlib.ExitStack() as stack:
        opened = tuple(stack.enter_context(NoiseSession(model, each)) for each in quantizers)  # type: ignore[arg-type]
        yield Sessions(stack.enter_context(NoiseSession(model, plan, in_place=in_place)), opened)  # type: ignore[arg-type]
