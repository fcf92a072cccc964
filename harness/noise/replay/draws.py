"""The keyed draw, written out from ``docs/draws.md``: labels to keys, keys to bits, bits to numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Unsigned = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
HASH_FIRST, HASH_SECOND = 0x7FEB352D, 0x846CA68B - 2**32
LINEAR_TERM, UNIT, MEAN = 1112070, 5.773953759558026e-09, 510
SHARED = "shared"
CHUNK = 1 << 16
"""Elements drawn at once: what stays in a core's cache."""


def label_key(*labels: str | int) -> int:
    """Return the key of ``labels``, from 0 to 2**64 - 1: BLAKE2b over ``length:text`` of each, read little-endian."""
    hasher = hashlib.blake2b(digest_size=8)
    for label in labels:
        hasher.update(f"{len(str(label))}:{label}".encode())
    return int.from_bytes(hasher.digest(), "little")


def finalized(x: Unsigned) -> Unsigned:
    """Return ``x`` mixed by variant 13 of Stafford's 64-bit finalizers, element by element, modulo 2**64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(SECOND)
    return x ^ (x >> np.uint64(31))


def counted(key: int | Unsigned, counters: Sequence[int] | Unsigned) -> Unsigned:
    """Return one key per counter of the stream ``key`` (or of streams, one for each):
    ``finalized(key + (counter + 1) * GOLDEN)``."""
    steps = (np.asarray(counters, dtype=np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
    return finalized(np.asarray(key, dtype=np.uint64) + steps)


def row_stream(item: str, seed: int, key_mode: str) -> int:
    """Return the stream of a sequence; its counters are token positions without padding."""
    return label_key("row", seed, SHARED if key_mode == "shared" else item)


def columns_of(site: str, count: int, *more: int) -> Unsigned:
    """Return the column keys of the ``count`` elements of a token's row at ``site`` (``more``: the head, of scores)."""
    return counted(label_key("site", site, *more), np.arange(count, dtype=np.uint64))


def halves(keys: Unsigned) -> tuple[Tensor, Tensor]:
    """Return the low and the high 32 bits of ``keys`` as int32 tensors of the same shape."""
    pairs = np.ascontiguousarray(keys).view(np.int32).reshape(*keys.shape, 2)
    return torch.from_numpy(pairs[..., 0].copy()), torch.from_numpy(pairs[..., 1].copy())


@dataclass(frozen=True)
class Side:
    """Keys along one side of a table of draws; the two halves, int32, broadcast against those of the other side."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, keys: Unsigned, device: torch.device | str = "cpu") -> Side:
        """Return the halves of ``keys`` on ``device``."""
        low, high = halves(keys)
        return cls(low.to(device), high.to(device))

    def view(self, *shape: int) -> Side:
        """Return the same keys in another shape."""
        return Side(self.low.reshape(shape), self.high.reshape(shape))

    def counted(self, counters: Sequence[int] | Unsigned) -> Side:
        """Return the key of one counter (one for all keys, or one for each) of each of the streams that these keys
        begin."""
        return Side.of(counted(self._whole(), counters), self.low.device)

    def _whole(self) -> Unsigned:
        pairs = torch.stack([self.low, self.high], -1).cpu().contiguous().numpy()
        return pairs.view(np.uint64)[..., 0]

    def salted(self, label: int) -> Side:
        """Return other keys for a second draw of the same element: ``finalized(key ^ label)``."""
        return Side.of(finalized(self._whole() ^ np.uint64(label)), self.low.device)


def hashed(rows: Side, columns: Side) -> Tensor:
    """Return 32 bits for every pair of keys, as int32: lowbias32 of the low halves, the high ones added on the way."""
    x = rows.low ^ columns.low
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    x *= HASH_FIRST
    x += rows.high ^ columns.high
    x ^= (x >> 15).bitwise_and_(0x1FFFF)
    x *= HASH_SECOND
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    return x


def normal(rows: Side, columns: Side) -> Tensor:
    """Return standard normal draws, float32: the cubic of the centred sum of the four bytes of :func:`hashed`."""
    x = hashed(rows, columns)
    pairs = (x >> 8).bitwise_and_(0x00FF00FF).add_(x.bitwise_and_(0x00FF00FF))
    total = (pairs >> 16).add_(pairs.bitwise_and_(0xFFFF)).sub_(MEAN).to(torch.float32)
    return (total * total).add_(LINEAR_TERM).mul_(total).mul_(UNIT)


def below(rows: Side, columns: Side, rate: float) -> Tensor:
    """Return bool, True with probability ``rate``: bits + 2**31 (modulo 2**32) below floor(float32(rate) * 2**32)."""
    threshold = int(float(np.float32(rate)) * 2.0**32)
    bits = hashed(rows, columns)
    if threshold >= 2**32:
        return torch.ones_like(bits, dtype=torch.bool)
    return bits < threshold - 2**31
