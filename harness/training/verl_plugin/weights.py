"""Proof that noise leaves weights as it found them: digests before and after, in the process that holds them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from harness.aqn.digest import digest


def digest_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return 32 hex digits of names and bits of ``tensors``; of a tensor that FSDP shards, of what lies here."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        here = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        found.update(f"{name}|{digest(here)}|".encode())
    return found.hexdigest()


class Unchanged:
    """Digests the weights of ``module`` around the first of each kind of pass between two reports."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._seen: dict[str, bool] = {}

    @contextlib.contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Run the pass ``name`` inside: forward, and backward where there is one, but no step of the optimizer."""
        if name in self._seen:
            yield
            return
        before = self._digest()
        yield
        self._seen[name] = self._digest() == before

    def report(self) -> dict[str, bool]:
        """Return pass -> whether it left the weights as they were, and forget it."""
        seen, self._seen = self._seen, {}
        return seen

    def _digest(self) -> str:
        state: dict[str, Any] = self._module.state_dict()  # FSDP lays its shards back before it answers
        return digest_of((name, value) for name, value in state.items() if isinstance(value, Tensor))
