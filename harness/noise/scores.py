"""Keys of attention scores, whose rows grow with the number of keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.noise.frames import Rows
from harness.numerics.keyed_random import DrawKey, Keys, stream_keys


def score_keys(streams: Sequence[int], rows: Rows) -> DrawKey:
    """Row keys (batch, 1, tokens, 1) and column keys (batch, heads, 1, keys) of scores; one stream key per head.

    A draw is keyed by query row, head and the key's position without padding, wherever that stands.
    """
    batch, tokens = rows.keys.shape
    keys = rows.key_positions.shape[1]
    found = [stream_keys(stream, keys, rows.keys.device) for stream in streams]
    table = Keys(torch.stack([k.low for k in found]), torch.stack([k.high for k in found]))
    index = rows.key_positions.clamp(min=0)[:, None, :].expand(batch, len(streams), keys)
    columns = [half.expand(batch, -1, -1).gather(2, index)[:, :, None, :] for half in table]
    return DrawKey(Keys.of(rows.keys).view(batch, 1, tokens, 1), Keys(*columns))
