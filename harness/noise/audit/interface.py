"""Looks on at transformers' attention interface: which function a block calls, with what, and what it gets back.

What a function returned is what the block goes on with, whatever follows between that and its projection: an output
gate, a norm. Nothing of the injector is asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

Began = Callable[[nn.Module, "AttentionCall"], None]
Ended = Callable[[nn.Module, Tensor], None]


@dataclass(frozen=True)
class AttentionCall:
    """How a block called its attention function: ``scaling`` of the scores (None: by the width of a head), ``softcap``
    on them (None: none), ``heads`` of the query, whether that function is a ``fused`` one, and the keys in the
    ``window`` of a query (None: all before it)."""

    scaling: float | None
    softcap: float | None
    heads: int
    fused: bool
    window: int | None = None


@dataclass(frozen=True)
class _Watched:
    """An attention function that reports its calls. It may stand around another one: only the outermost is called by
    the block, and only the innermost computes."""

    function: Callable[..., Any]
    name: str
    began: Began
    ended: Ended

    def __call__(self, module: nn.Module, query: Tensor, *args: Any, **kwargs: Any) -> Any:
        scaling, softcap = kwargs.get("scaling"), kwargs.get("softcap")
        fused, window = "eager" not in self.name, kwargs.get("sliding_window")
        self.began(module, AttentionCall(scaling, softcap, query.shape[1], fused, window))
        output = self.function(module, query, *args, **kwargs)
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            self.ended(module, first)
        return output


@contextlib.contextmanager
def attention_watched(began: Began, ended: Ended) -> Iterator[None]:
    """Call ``began`` and ``ended`` at every attention function that a model takes from the interface while this is
    open; ``ended`` gets what it returned, (batch, tokens, heads, dim)."""
    before = AttentionInterface.__dict__["get_interface"]

    def get_interface(interface: AttentionInterface, implementation: str, default: Any) -> Any:
        found = before(interface, implementation, default)
        name = found.name if isinstance(found, _Watched) else getattr(found, "__name__", "")
        return _Watched(found, name, began, ended)

    AttentionInterface.get_interface = get_interface
    try:
        yield
    finally:
        AttentionInterface.get_interface = before
