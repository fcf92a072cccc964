"""A fast digest of a tensor's bits, with which a restored or an updated weight is told from another."""

from __future__ import annotations

import ctypes
import hashlib

from torch import Tensor

from harness.numerics.native_weights import WORD, row_hashes

WHOLE = 1 << 16
"""Bytes up to which every byte is hashed; above it every row is (64-bit words), and the hashes of the rows are."""


def digest(tensor: Tensor, rows: Tensor | None = None) -> str:
    """Return 32 hex digits of the bits, dtype and shape of ``tensor``; ``rows`` are its hashes where they are known.

    Large tensors: BLAKE2b over :func:`harness.numerics.native_weights.row_hashes`. Against accidents, not against
    forgery.
    """
    found = hashlib.blake2b(f"{tensor.dtype}|{tuple(tensor.shape)}|".encode(), digest_size=16)
    data = tensor.detach()
    if not data.is_contiguous():
        data = data.contiguous()
    if by_rows(data):
        found.update(_bytes(hashes_of(data) if rows is None else rows))
    else:
        found.update(_bytes(data))
    return found.hexdigest()


def hashes_of(tensor: Tensor) -> Tensor:
    """Return a hash of each row of ``tensor``, whose :func:`by_rows` holds."""
    data = tensor.detach()
    data = data if data.is_contiguous() else data.contiguous()
    return row_hashes(data.view(-1, data.shape[-1]))


def by_rows(tensor: Tensor) -> bool:
    """Return whether the digest of ``tensor`` is made of hashes of its rows."""
    width = tensor.shape[-1] * tensor.element_size() if tensor.ndim > 1 else 0
    return tensor.numel() * tensor.element_size() > WHOLE and width > 0 and width % WORD == 0


def _bytes(tensor: Tensor) -> bytes:
    """The bytes of a contiguous tensor, copied: FSDP cannot free a storage that something else holds."""
    there = tensor.cpu()
    return ctypes.string_at(there.data_ptr(), there.numel() * there.element_size()) if there.numel() else b""
