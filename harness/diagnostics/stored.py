"""Digests of what a scan reads: of one tensor, and of the names and shapes of all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

from harness.checkpoints.tensors import content

CHUNK = 1 << 22
"""Elements that are looked at together: temporaries stay small against any weight."""


def tensor_digest(tensor: Tensor) -> str:
    """Return 16 hex digits of SHA-256 over dtype, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    digest.update(content(tensor))
    return digest.hexdigest()[:16]


def header_digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return 16 hex digits over names and shapes alone: known before a tensor is read."""
    text = "\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
