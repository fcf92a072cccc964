"""Gradient checkpointing recomputes a layer during the backward pass: its noise must be that of its own forward."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from harness.exceptions import EvidenceError
from harness.noise.protocol import Session

_FUNCTION = "_gradient_checkpointing_func"


@contextlib.contextmanager
def bound(model: nn.Module, session: Session) -> Iterator[None]:
    """Have every layer that transformers checkpoints remember which forward it belongs to.

    Works for both kinds of checkpointing, whatever ran between forward and backward.
    """
    changed: list[tuple[nn.Module, Any, Any]] = []
    try:
        for module in model.modules():
            before = module.__dict__.get(_FUNCTION)
            if before is not None:
                module.__dict__[_FUNCTION] = ours = functools.partial(_checkpoint, before, session)
                changed.append((module, ours, before))
        yield
    finally:
        for module, ours, before in changed:
            if module.__dict__.get(_FUNCTION) is ours:  # else somebody has switched checkpointing meanwhile
                module.__dict__[_FUNCTION] = before


def _checkpoint(original: Callable[..., Any], session: Session, function: Any, *args: Any, **kwargs: Any) -> Any:
    if torch.compiler.is_compiling():  # there the number of the forward is an input of the recomputed region
        return original(function, *args, **kwargs)
    frame = session.frame(None)

    def again(*inner: Any, **more: Any) -> Any:
        if not session.is_open:
            raise EvidenceError(
                "a layer is recomputed after its noise session closed",
                "it would be recomputed without the noise of its forward",
                "run backward inside the with block",
            )
        with session.bound(frame):
            return function(*inner, **more)

    return original(again, *args, **kwargs)
