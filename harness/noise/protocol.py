"""What the ways into a model and the custom operators need of a noise session, so that they do not import it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.noise.frames import Frame, Rows
from harness.noise.plan import InjectionPlan
from harness.noise.sites import Site
from harness.numerics.keyed_random import Keys


class Session(Protocol):
    """An open noise session: :class:`harness.noise.session.NoiseSession`."""

    model: nn.Module | None
    plan: InjectionPlan
    handle: int
    is_open: bool

    @property
    def is_paused(self) -> bool:
        """Return True where this thread runs without noise and without counts."""

    @staticmethod
    def hook(stack: contextlib.ExitStack, handle: Any) -> None:
        """Remove the hook ``handle`` when ``stack`` closes."""

    def paused(self) -> contextlib.AbstractContextManager[Any]:
        """Run what is inside without noise and without counts, on this thread."""

    def begin(self, shape: Sequence[int], mask: Tensor | None, past: int, device: torch.device) -> Frame:
        """Start a forward pass over (batch, tokens, ...) after ``past`` cached tokens."""

    def frame(self, site: Site | None) -> Frame:
        """Return the forward that runs, or is being recomputed, on this thread."""

    def frame_of(self, number: int) -> Frame:
        """Return the forward with that number."""

    def bound(self, frame: Frame) -> contextlib.AbstractContextManager[None]:
        """Let recomputations inside belong to ``frame``."""

    def derived(self, frame: Frame, rows: Rows) -> Frame:
        """Return ``frame`` with other ``rows``, under a number of its own."""

    def call(self) -> contextlib.AbstractContextManager[None]:
        """Run one call of an operator outside any model."""

    def site(self, number: int) -> Site:
        """Return the site with that number."""

    def number(self, site: Site) -> int:
        """Return the number of ``site``; sites found while running are added."""

    def result(self, site: Site, y: Tensor) -> Tensor:
        """Return the result ``y`` of ``site`` with forward noise, counted."""

    def operand(self, site: Site, x: Tensor, name: str) -> Tensor:
        """Return the operand ``x``, so that its gradient is perturbed."""

    def portion(self, site: Site, y: Tensor, keys: Keys, real: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """Return some rows of the result of ``site`` without gradients, perturbed, and their measures."""

    def note(self, site: Site, frame: Frame, rows: int, elements: int, sums: Sequence[Tensor]) -> None:
        """Count all portions of one call of ``site``."""

    def weight(self, site: Site, value: Tensor) -> Tensor:
        """Return the weight ``value`` of ``site``, perturbed."""

    def inject(self, site: Site, part: str, y: Tensor, frame: Frame) -> Tensor:
        """Return ``y`` perturbed at ``site`` in ``frame``, counted."""
