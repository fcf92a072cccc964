"""A mixture's stacked experts written out a second time: one expert after the other, each product by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BLOCK = "_harness_replay_experts"

Change = Callable[[Tensor, Tensor, int], Tensor]
"""Gives rows (rows, columns) of the tokens with these flat numbers and of one expert anew."""


class Block:
    """What stands in place of the forward of ``module``, a class of transformers' ``use_experts_implementation``."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._changes: dict[tuple[str, bool], list[Change]] = {}

    def add(self, field: str, at_input: bool, change: Change) -> None:
        """Have ``change`` act on what the product with the weight ``field`` is given, or on what it gives."""
        self._changes.setdefault((field, at_input), []).append(change)

    def forward(self, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the sum over the experts that each token chose: ``hidden`` (tokens, hidden), ``chosen`` int64 and
        ``weights`` (tokens, experts chosen)."""
        module, total = self._module, torch.zeros_like(hidden)
        first = "gate_up_proj" if module.has_gate else "up_proj"
        for expert in chosen.unique().tolist():
            tokens, places = torch.where(chosen == expert)
            inner = self._product(first, hidden[tokens], tokens, expert)
            inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
            given = self._product("down_proj", inner, tokens, expert) * weights[tokens, places, None]
            total.index_add_(0, tokens, given.to(total.dtype))
        return total

    def _product(self, field: str, x: Tensor, tokens: Tensor, expert: int) -> Tensor:
        module = self._module
        for change in self._changes.get((field, True), ()):
            x = change(x, tokens, expert)
        weight = getattr(module, field)[expert]
        y: Tensor = x @ (weight if module.is_transposed else weight.t())
        for change in self._changes.get((field, False), ()):
            y = change(y, tokens, expert)
        return y + getattr(module, f"{field}_bias")[expert] if module.has_bias else y
