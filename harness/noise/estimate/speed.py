"""How fast this machine perturbs and multiplies: a few tenths of a second, for an estimate before anything runs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from harness.noise.kernel import Kernel
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, derive_key, stream_keys
from harness.spec import ErrorModel

BATCH = 64
"""Token rows of what is timed."""

WIDTH = 1024
SECONDS, REPETITIONS = 0.1, 3
"""Each measurement takes at least this long and this many repetitions; the fastest one counts."""

ASSUMED_LEVEL = 0.05
"""Strength of an error model that leaves it to the levels; the time does not depend on it."""


@dataclass(frozen=True)
class Speed:
    """``nanoseconds[str(error)]`` per element of the noise kernel that a run would use here; ``gflops`` of a
    product of (64, 1024) by (1024, 1024), in 10^9 floating-point operations per second."""

    nanoseconds: Mapping[str, float]
    gflops: float


def measure_speed(errors: Iterable[ErrorModel], dtype: str, device: str) -> Speed:
    """Time the kernel for each of ``errors`` and one matrix product, in ``dtype`` on ``device``."""
    place, kind = torch.device(device), getattr(torch, dtype)
    y = torch.linspace(-2, 2, BATCH * WIDTH, device=place).reshape(BATCH, WIDTH).to(kind)
    weight = torch.linspace(-1, 1, WIDTH * WIDTH, device=place).reshape(WIDTH, WIDTH).to(kind)
    rows = Keys.of(counter_keys(derive_key("calibration"), torch.arange(BATCH, device=place))).view(-1, 1)
    key = DrawKey(rows, stream_keys(derive_key("calibration"), WIDTH, place).view(1, -1))
    real = torch.ones(BATCH, 1, dtype=torch.bool, device=place)
    kernel = Kernel()
    nanoseconds = {}
    with torch.inference_mode():
        for error in errors:
            level = float(error.level if error.level is not None else ASSUMED_LEVEL)
            seconds = _fastest(functools.partial(kernel.perturb, error, y, key, level, real), place)
            nanoseconds[str(error)] = seconds * 1e9 / y.numel()
        seconds = _fastest(lambda: y @ weight, place)
    return Speed(nanoseconds, 2 * BATCH * WIDTH * WIDTH / seconds / 1e9)


def _fastest(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few repetitions, after one that does not count."""
    function()
    _wait(device)
    best, repetitions, begun = float("inf"), 0, time.perf_counter()
    while repetitions < REPETITIONS or time.perf_counter() - begun < SECONDS:
        start = time.perf_counter()
        function()
        _wait(device)
        best, repetitions = min(best, time.perf_counter() - start), repetitions + 1
    return best


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
