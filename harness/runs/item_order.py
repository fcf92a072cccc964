"""The seeded order in which an evaluation takes the items of its task: one home for both who choose and who check."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def choice_order(keys: Iterable[str], seed: int) -> tuple[str, ...]:
    """Return item ``keys`` in the order of SHA-256 of ``"{seed}/{key}"``.

    It depends on the keys only, so that the order of a part of the items is that of the whole, and a larger choice
    extends a smaller one.
    """
    return tuple(sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest()))
