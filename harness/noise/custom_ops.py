"""The two opaque operators through which noise enters autograd graphs and compiled regions.

A compiler sees their shapes only; what they do happens at run time, in Python, on the session that the handle
names. Counters, scale and seeds are therefore right under ``torch.compile``, and its draws are those of eager mode.
A closed session leaves its operators behind in compiled code: they then return their input's values unchanged.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor

from harness.exceptions import EvidenceError
from harness.noise.frames import Frame
from harness.noise.protocol import Session
from harness.noise.sites import Site

RESULT = ""
"""The part of a call that is its result; gradients are named by their operand."""


class _Registry:
    """Open sessions by handle. An operator's arguments can only be tensors and numbers, so it needs a way back."""

    def __init__(self) -> None:
        self._sessions: weakref.WeakValueDictionary[int, Session] = weakref.WeakValueDictionary()
        self._engines: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._numbers = itertools.count(1)

    def add(self, session: Session) -> int:
        """A handle for ``session``, never used before in this process."""
        handle = next(self._numbers)
        self._sessions[handle] = session
        return handle

    def put(self, handle: int, session: Any) -> None:
        """Keeps ``session`` under a handle of its own making, the same in every process (an engine's session)."""
        self._engines[handle] = session

    def open(self) -> tuple[Session, ...]:
        """All open sessions on models of this process."""
        found = (reference() for reference in self._sessions.valuerefs())
        return tuple(session for session in found if session is not None and session.is_open)

    def get(self, handle: int) -> Any:
        """The session (of a model, or of an engine), or None where it is closed."""
        session: Any = self._sessions.get(handle) or self._engines.get(handle)
        return session if session is not None and session.is_open else None


SESSIONS = _Registry()


@torch.library.custom_op("robustness_harness::begin", mutates_args=())
def begin(like: Tensor, mask: Tensor | None, past: int, handle: int) -> Tensor:
    """Start a forward pass over ``like`` (batch, tokens, ...) and return its number, int64 0-d on the CPU.

    ``mask`` is (batch, past + tokens), 0 at padding, or None.
    """
    session = SESSIONS.get(handle)
    number = 0 if session is None else session.begin(like.shape, mask, past, like.device).number
    return torch.tensor(number)


@begin.register_fake
def _(like: Tensor, mask: Tensor | None, past: int, handle: int) -> Tensor:
    return torch.empty((), dtype=torch.int64, device="cpu")


@torch.library.custom_op("robustness_harness::perturb", mutates_args=())
def perturb(y: Tensor, token: Tensor, handle: int, site: int, part: str) -> Tensor:
    """Return ``y`` with the noise of site number ``site`` in the forward that ``token`` names; a new tensor.

    ``part`` is :data:`RESULT` or the name of the operand whose gradient ``y`` is. The gradient passes through
    unchanged: an error of the hardware is not part of the function that is differentiated.
    """
    session = SESSIONS.get(handle)
    after = y if session is None else session.inject(session.site(site), part, y, session.frame_of(int(token)))
    # a tensor of its own: neither the input, nor a view, which autograd lets nobody write to, nor a kept weight
    return y.clone() if after is y else torch.ops.aten._unsafe_view(after, after.shape)


@perturb.register_fake
def _(y: Tensor, token: Tensor, handle: int, site: int, part: str) -> Tensor:
    return torch.empty_like(y)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keeps the token, though no gradient needs it: a recomputation without noise then keeps one tensor less, which
    ``torch.utils.checkpoint`` refuses."""
    ctx.save_for_backward(inputs[1])


def _straight_through(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    return gradient, None, None, None, None


perturb.register_autograd(_straight_through, setup_context=_remember)


class Operand(torch.autograd.Function):
    """The identity on an operand, whose backward perturbs the gradient: noise in backward for any operator."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, handle: int, site: int, name: str, frame: Frame | None) -> Tensor:
        """Return ``x`` itself, as a view. ``frame`` (None in compiled code) lives as long as the backward pass may
        come."""
        ctx.frame = frame
        ctx.save_for_backward(token)
        ctx.where = handle, site, name
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """Return the perturbed gradient of ``x``."""
        (token,) = ctx.saved_tensors
        if not torch.compiler.is_compiling() and SESSIONS.get(ctx.where[0]) is None:
            raise EvidenceError(
                "backward pass of a forward with backward noise",
                "its noise session is closed, so that no gradient would be perturbed",
                "run backward inside the with block",
            )
        return perturb(gradient, token, *ctx.where), None, None, None, None, None


def number_sites(sites: tuple[Site, ...]) -> dict[str, int]:
    """Return site name -> its number, which names it in the operators' arguments."""
    return {site.name: number for number, site in enumerate(sites)}
