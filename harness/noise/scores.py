"""Keys of attention scores, whose rows grow with the number of keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.noise.frames import Rows
from harness.numerics.keyed_random import DrawKey, Keys, stream_keys

TABLE_STEP = 256
"""Tables are made for a multiple of this many keys, so that a growing context does not make them anew each step."""


def score_table(streams: Sequence[int], keys: int, device: torch.device) -> Keys:
    """Return column keys of one stream per head, (heads, at least ``keys``)."""
    width = -(-keys // TABLE_STEP) * TABLE_STEP
    found = [stream_keys(stream, width, device) for stream in streams]
    return Keys(torch.stack([k.low for k in found]), torch.stack([k.high for k in found]))


def score_keys(table: Keys, rows: Rows) -> DrawKey:
    """Return row keys (batch, 1, tokens, 1) and column keys (batch, heads, 1, keys) of scores, from a
    :func:`score_table`.

    A draw is keyed by query row, head and the key's position without padding, wherever that stands.
    """
    batch, tokens = rows.keys.shape
    heads, keys = table.low.shape[0], rows.key_positions.shape[1]
    index = rows.key_positions.clamp(min=0)[:, None, :].expand(batch, heads, keys)
    columns = [half.expand(batch, -1, -1).gather(2, index)[:, :, None, :] for half in table]
    halves, _ = rows.columns
    return DrawKey(halves.view(batch, 1, tokens, 1), Keys(*columns))
