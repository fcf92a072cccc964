"""The declared phase of a run (rollout, training, validation): a gate for specifications that name phases."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from harness.exceptions import NoiseSpecError
from harness.spec.noise import PHASES
from harness.text import nearest

_PHASE: contextvars.ContextVar[str] = contextvars.ContextVar("robustness_harness_phase", default="")


def current_phase() -> str:
    """Return the innermost declared phase of this thread or task; empty where none is declared."""
    return _PHASE.get()


def declare(name: str) -> None:
    """Declare the phase ``name`` for the rest of this thread or task, until it is declared anew; empty: none.

    For callers that cannot wrap a phase in a block; :func:`phase` is the better form. Raises as that does.
    """
    if name:
        _check(name)
    _PHASE.set(name)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Declare the phase ``name`` (rollout, training or validation) for what runs inside. Nests.

    Raises :class:`NoiseSpecError` for another name.
    """
    _check(name)
    token = _PHASE.set(name)
    try:
        yield
    finally:
        _PHASE.reset(token)


def _check(name: str) -> None:
    if name not in PHASES:
        raise NoiseSpecError(f"unknown phase {name!r}", nearest(name, PHASES))
