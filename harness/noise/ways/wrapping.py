"""Puts code around a module's forward, where hooks would stand outside what has to be watched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn


@contextlib.contextmanager
def wrapped(module: nn.Module, around: Callable[..., Any]) -> Iterator[None]:
    """Run ``around(module, original, args, kwargs)`` in place of ``module.forward``; restored on leaving."""
    original = module.forward
    shadowed = module.__dict__.get("forward")

    def forward(*args: Any, **kwargs: Any) -> Any:
        return around(module, original, args, kwargs)

    module.forward = forward
    try:
        yield
    finally:
        if shadowed is None:
            del module.__dict__["forward"]
        else:
            module.forward = shadowed
