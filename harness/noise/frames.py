"""The rows of a forward pass (item, seed, token position: the row half of every key) and what applies to them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.numerics.keyed_random import Keys, counter_keys, derive_key
from harness.spec.errors import ErrorModel
from harness.spec.tokens import Span

SHARED_ITEM = "shared"


def row_bases(items: Sequence[str], seeds: Sequence[int], key_mode: str = "item") -> Tensor:
    """Return one int64 key per sequence of the batch from (seed, item hash), shape (batch,).

    With ``key_mode="shared"`` the item is left out: every sequence sees the draws of the same chip.
    """
    if len(items) != len(seeds):
        raise ValueError(f"{len(items)} items but {len(seeds)} seeds")
    keyed = (SHARED_ITEM if key_mode == "shared" else item for item in items)
    return torch.tensor([derive_key("row", seed, item) for item, seed in zip(keyed, seeds, strict=True)])


@dataclass(frozen=True)
class Rows:
    """The rows of one forward pass.

    ``keys`` int64 (batch, tokens): the row key of every token; ``positions`` int64 (batch, tokens): its
    position without padding; ``key_positions`` int64 (batch, keys): the position of every cached token, -1
    where it is padding; ``real`` bool (batch, tokens), False at padding; ``count`` the number
    of real tokens; ``visible`` the number of (query, key) pairs of real tokens under the causal mask.
    ``chosen`` bool (batch, tokens) are the tokens that a selection takes, None where it takes all: the others are
    not real either, and their rows must be left as they are. ``made`` are the
    :attr:`columns`, where they are known already.
    """

    keys: Tensor
    positions: Tensor
    key_positions: Tensor
    real: Tensor
    count: int
    visible: int
    chosen: Tensor | None = None
    made: tuple[Keys, Tensor] | None = None

    @classmethod
    def of(cls, bases: Tensor, attention_mask: Tensor | None, tokens: int, past: int) -> Rows:
        """Return rows of the last ``tokens`` columns after ``past`` cached ones.

        ``attention_mask`` is (batch, past + tokens) with 0 at padding, or None where there is none. Positions
        count real tokens only, so that a key does not depend on padding or batch.
        """
        batch, width = bases.shape[0], past + tokens
        if attention_mask is None:
            columns = torch.arange(width, device=bases.device).expand(batch, width)
            positions = columns[:, past:]
            visible = batch * sum(range(past + 1, width + 1))
            real = torch.ones_like(positions, dtype=torch.bool)
            return cls(counter_keys(bases[:, None], positions), positions, columns, real, batch * tokens, visible)
        if attention_mask.shape != (batch, width):
            raise ValueError(
                f"attention mask of shape {tuple(attention_mask.shape)} with {batch} item keys and {width} tokens"
            )
        kept = attention_mask.bool()
        columns = torch.where(kept, attention_mask.long().cumsum(1) - 1, -1)
        positions, real = columns[:, past:], kept[:, past:]
        # both numbers in one transfer: the only synchronisation of a forward pass
        count, visible = torch.stack([real.sum(), ((positions + 1) * real).sum()]).tolist()
        keys = counter_keys(bases[:, None], positions)
        return cls(keys, positions, columns, real, count, visible)

    def within(self, prompts: Tensor, spans: Sequence[Span]) -> Rows:
        """Return the rows whose steps lie in ``spans`` (:mod:`harness.spec.tokens`); ``prompts`` int64 (batch,) holds
        the tokens of each sequence's prompt."""
        chosen = self.real & chosen_steps(self.positions - (prompts[:, None] - 1), spans)
        count, visible = torch.stack([chosen.sum(), ((self.positions + 1) * chosen).sum()]).tolist()
        if count == self.count:
            return self
        return replace(self, real=chosen, count=count, visible=visible, chosen=chosen)

    @functools.cached_property
    def places(self) -> Tensor | None:
        """The flat numbers of the chosen rows, int64; None where all are."""
        return None if self.chosen is None else self.chosen.reshape(-1).nonzero()[:, 0]

    @functools.cached_property
    def columns(self) -> tuple[Keys, Tensor]:
        """``keys`` and ``real`` as columns, (batch * tokens, 1): made once for all sites of a forward."""
        if self.made is not None:
            return self.made
        return Keys.of(self.keys).view(-1, 1), self.real.reshape(-1, 1).contiguous()

    @functools.cached_property
    def seen(self) -> Tensor:
        """Which keys the real queries may see, bool (batch, 1, tokens, keys)."""
        keys, queries = self.key_positions[:, None, :], self.positions[:, :, None]
        return ((keys <= queries) & (keys >= 0) & self.real[:, :, None])[:, None].contiguous()

    def last(self, tokens: int) -> Rows:
        """Return the rows of the last ``tokens`` tokens of each sequence (the head sees only those in a prefill)."""
        if tokens == self.keys.shape[1]:
            return self
        real = self.real[:, -tokens:]
        # the last token of a sequence is never padding: it stands on the left
        count = self.keys.shape[0] if tokens == 1 and self.chosen is None else int(real.sum())
        chosen = None if self.chosen is None else self.chosen[:, -tokens:]
        keys, positions = self.keys[:, -tokens:], self.positions[:, -tokens:]
        return replace(self, keys=keys, positions=positions, real=real, count=count, chosen=chosen, made=None)


@dataclass(frozen=True)
class Frame:
    """One forward pass of the model: who its rows are, and what noise applies to all that belongs to it.

    Gradients and recomputations carry the frame of their forward, so that they find it whatever ran in between.
    ``number`` counts the forwards of a session; ``token`` is the same number as a 0-d int64 tensor on the CPU, which
    travels through compiled graphs. ``rows`` is None outside a model. ``named`` is True where the items were given,
    so that results must not depend on the batch. ``level`` is the strength of ``error``; ``active`` is False in a
    phase that the specification leaves out. ``labels`` key draws that no single row owns: (seed, step, micro-batch).
    """

    number: int
    token: Tensor
    rows: Rows | None
    named: bool
    error: ErrorModel
    level: float
    active: bool
    phase: str
    labels: tuple[str | int, ...]
    weight_seed: int | None = 0
    """The noise seed of weights, which all rows share; None where the rows of a batch have different seeds."""

    batch: int | None = None
    """The number of the named batch that the forward belongs to; weights do not change within it."""


def chosen_steps(steps: Tensor, spans: Sequence[Span]) -> Tensor:
    """Return bool, True where ``steps`` (int64) lie in one of ``spans``."""
    chosen = torch.zeros_like(steps, dtype=torch.bool)
    for low, high in spans:
        inside = torch.ones_like(chosen)
        if low is not None:
            inside &= steps >= low
        if high is not None:
            inside &= steps <= high
        chosen |= inside
    return chosen


def anonymous_bases(batch: int, labels: tuple[str | int, ...], device: torch.device) -> Tensor:
    """Return one int64 key per row of a batch whose items have no names: keyed by ``labels`` and the row's number."""
    return counter_keys(derive_key("anonymous", *labels), torch.arange(batch, device=device))
