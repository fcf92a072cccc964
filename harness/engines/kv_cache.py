"""Keys and values of a batch that is decoded, in buffers with room to grow.

transformers' own layers copy everything at every token, which is more bytes than the products of a small model read.
Here a step writes its own token, and a sequence that has ended gives its place to the last one of the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

ROOM = 64
"""Tokens for which a buffer has room beyond those that it is made for."""


class RoomyLayer(DynamicLayer):
    """A layer that attends to all tokens before: ``keys`` and ``values`` (batch, heads, tokens, dim) are views of
    buffers with room for more."""

    keys: Tensor | None
    values: Tensor | None
    _buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Take the keys and values of the next tokens, and return those of all so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held, rows, more = self.get_seq_length(), key_states.shape[0], key_states.shape[2]
        buffers = self._fitting(rows, held + more)
        if buffers is None:
            buffers = _roomy(key_states, held), _roomy(value_states, held)
            if held and self.keys is not None and self.values is not None:
                buffers[0][:, :, :held], buffers[1][:, :, :held] = self.keys, self.values
            self._buffers = buffers
        for buffer, new in zip(buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, held : held + more] = new
        keys, values = (buffer[:rows, :, : held + more] for buffer in buffers)
        self.keys, self.values = keys, values
        return keys, values

    def _fitting(self, rows: int, tokens: int) -> tuple[Tensor, Tensor] | None:
        """The buffers, where what the layer holds lies in them (others may have reordered it) and there is room."""
        if self._buffers is None or self.keys is None or self.keys.data_ptr() != self._buffers[0].data_ptr():
            return None
        height, _, width, _ = self._buffers[0].shape
        return self._buffers if rows <= height and tokens <= width else None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows ``indices`` (int64, each at most once), in that order; a row that stays in its place is not
        copied."""
        if self.keys is None or self.values is None or not self.get_seq_length():
            return
        places = torch.arange(len(indices), device=indices.device)
        moved = indices != places
        for held in (self.keys, self.values):
            held[places[moved]] = held[indices[moved]]
        self.keys, self.values = self.keys[: len(indices)], self.values[: len(indices)]


def _roomy(states: Tensor, held: int) -> Tensor:
    rows, heads, more, width = states.shape
    return states.new_empty(rows, heads, held + more + ROOM, width)


def roomy_cache(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache for ``model``: its layers that attend to all tokens have room, others are as
    transformers makes them."""
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def keep_rows(cache: DynamicCache, kept: Tensor) -> None:
    """Keep the rows ``kept`` (int64) of every layer of ``cache``, keys and values as well as recurrent states.

    ``batch_select_indices`` is missing from layers with recurrent states, or reaches only half of what they hold;
    ``reorder_cache``, which beam search needs, selects rows too, fewer of them as well.
    """
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            layer.reorder_cache(kept)
        else:
            layer.batch_select_indices(kept)


def closed_up(going: Tensor) -> Tensor:
    """Return the rows that are ``going`` on (bool), int64: the last ones stand in the places of those that are not, so
    that few have to be moved."""
    rows = going.nonzero()[:, 0]
    count = len(rows)
    last, free = rows[rows >= count], (~going[:count]).nonzero()[:, 0]
    order = torch.arange(count, device=going.device)
    order[free] = last
    return order
