"""Interleaved timing: every way takes its turn in each round, so that a shared machine is slow for all of them."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """``count`` OpenMP threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ratios(base: Callable[[], object], ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median over rounds of (seconds of a way / seconds of ``base`` in the same round); ``seconds`` is that of base."""
    base()
    for way in ways.values():
        way()
    found: dict[str, list[float]] = {name: [] for name in ways}
    seconds = []
    for _ in range(rounds):
        clean = _seconds(base)
        seconds.append(clean)
        for name, way in ways.items():
            found[name].append(_seconds(way) / clean)
    return {name: statistics.median(values) for name, values in found.items()} | {"seconds": statistics.median(seconds)}


def _seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun
