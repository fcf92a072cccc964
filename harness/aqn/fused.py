"""vLLM's fused matrices, taken apart into the ones that transformers names: their draws are keyed by those names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from harness.exceptions import HarnessError

FUSED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
)
"""Last component of a fused module's name -> those of its parts, in the order of their rows."""


def parts_of(module: nn.Module, name: str, rows: int) -> list[tuple[str, slice | None]]:
    """Return (name, rows) of every part of ``module``; one part with rows None where it is not fused.

    Fused are vLLM's modules that say what their parts' sizes are (``output_sizes``). Raises :class:`HarnessError`.
    """
    parent, _, last = name.rpartition(".")
    sizes = getattr(module, "output_sizes", None)
    parts = FUSED.get(last)
    if parts is None or sizes is None:
        return [(name, None)]
    split = [int(size) // int(getattr(module, "tp_size", 1)) for size in sizes]
    if len(split) != len(parts) or sum(split) != rows:
        raise HarnessError(
            f"fused layer {name} of {rows} rows", f"its parts {list(sizes)} do not add up to it", "target norms only"
        )
    found: list[tuple[str, slice | None]] = []
    start = 0
    for part, size in zip(parts, split, strict=True):
        found.append((f"{parent}.{part}" if parent else part, slice(start, start + size)))
        start += size
    return found
