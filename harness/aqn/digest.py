"""A fast digest of a tensor's bits, with which a restored or an updated weight is told from another."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

WHOLE = 1 << 16
"""Bytes up to which every byte is hashed; above it the sums of all rows and of all columns are (64-bit words)."""


def digest(tensor: Tensor) -> str:
    """Return 32 hex digits of the bits, dtype and shape of ``tensor``.

    Large tensors: BLAKE2b over the wrapping sums of the 64-bit words of every row and every column, which any change of
    one element changes. Against accidents, not against forgery.
    """
    found = hashlib.blake2b(f"{tensor.dtype}|{tuple(tensor.shape)}|".encode(), digest_size=16)
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    width = tensor.shape[-1] * tensor.element_size() if tensor.ndim > 1 else 0
    if data.numel() <= WHOLE or width == 0 or width % 8:
        found.update(data.clone().cpu().numpy().data)  # FSDP cannot free a storage that numpy has seen
        return found.hexdigest()
    words = data.view(torch.int64).reshape(-1, width // 8)
    for sums in (words.sum(0), words.sum(1)):
        found.update(sums.cpu().numpy().data)
    return found.hexdigest()
