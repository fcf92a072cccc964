"""What a format gives on Gaussian data: the yardstick of the calibrated policy.

The SQNR of MX formats is periodic in log2(sigma), since their scales are powers of two; so the Gaussian rows have the
root mean squares of the rows that they stand for, to an eighth of an octave. Formats with real-valued scales do not
see the scale; formats without any see it as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.diagnostics.scan_result import Metrics, combine
from harness.diagnostics.stored import CHUNK
from harness.numerics.keyed_random import Keys, bits, counter_keys, derive_key, stream_keys
from harness.numerics.quant_measure import QuantSums
from harness.spec.formats import POWER_OF_TWO, UNSCALED, WHOLE, Recipe

STEPS = 8
"""Scales looked at within an octave: SQNR moves by at most about 0.15 dB between two of them."""

ELEMENTS = 1 << 18
"""Draws for one figure: the SQNR of MXFP4 then scatters by about 0.02 dB."""

USUAL_LENGTH = 1024
"""Length that stands for every row without a ragged block at its end, where blocks do not see more of it."""


class RowScales:
    """How many rows there are of each root mean square, by eighths of an octave, with their energy."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.energy: dict[int, float] = {}
        self.finite = 0
        self.nonfinite = 0

    def add(self, matrix: Tensor) -> None:
        """Add the rows of ``matrix``; elements that are not finite, and rows of zeros, have no part in it."""
        step = max(1, CHUNK // 4 // max(1, matrix.shape[1]))
        for start in range(0, matrix.shape[0], step):
            rows = matrix[start : start + step].double()
            sound = rows.isfinite()
            squares = torch.where(sound, rows, 0.0).square_().sum(1)
            counts = sound.sum(1)
            self.finite += int(counts.sum())
            self.nonfinite += int(rows.numel() - counts.sum())
            kept = squares > 0
            steps = ((squares[kept] / counts[kept]).log2() * (STEPS / 2)).round().long()
            found, inverse = steps.unique(return_inverse=True)
            energies = torch.zeros(len(found), dtype=torch.float64, device=squares.device)
            energies.index_add_(0, inverse, squares[kept])
            numbers = inverse.bincount(minlength=len(found))
            for key, count, energy in zip(found.tolist(), numbers.tolist(), energies.tolist(), strict=True):
                self.rows[key] = self.rows.get(key, 0) + count
                self.energy[key] = self.energy.get(key, 0.0) + energy

    @property
    def rms(self) -> float:
        """Root mean square of all finite elements; NaN without any."""
        return math.sqrt(sum(self.energy.values()) / self.finite) if self.finite else math.nan


@dataclass(frozen=True)
class _Case:
    recipe: Recipe
    length: int
    step: int
    dtype: torch.dtype
    per_row: bool


class Yardstick:
    """Expected metrics on Gaussian data; equal cases are computed once for the life of the object."""

    def __init__(self) -> None:
        self._known: dict[_Case, Metrics] = {}

    def expected(self, recipe: Recipe, scales: RowScales, length: int, dtype: torch.dtype, per_row: bool) -> Metrics:
        """Return what ``recipe`` gives on Gaussian rows of ``length`` elements with the root mean squares of
        ``scales``.

        ``dtype`` is that of the data; ``per_row`` gives every row a tensor scale of its own.
        """
        rows: dict[int, int] = {}
        energy: dict[int, float] = {}
        for step, count in scales.rows.items():
            key = _seen_step(recipe, step)
            rows[key] = rows.get(key, 0) + count
            energy[key] = energy.get(key, 0.0) + scales.energy[step]
        parts = [
            (self._metrics(_Case(recipe, _seen_length(recipe, length, per_row), step, dtype, per_row)), energy[step])
            for step in rows
        ]
        counts: Mapping[int, int] = rows
        return combine((found, share, float(counts[step])) for (found, share), step in zip(parts, rows, strict=True))

    def _metrics(self, case: _Case) -> Metrics:
        if case not in self._known:
            data = gaussian(-(-ELEMENTS // case.length), case.length) * 2.0 ** (case.step / STEPS)
            sums = QuantSums()
            sums.add(data.to(case.dtype), case.recipe, per_row=case.per_row)
            error = sums.result()
            self._known[case] = Metrics(error.sqnr_db, error.dead_zone, error.saturation, error.mean_relative)
        return self._known[case]


def gaussian(rows: int, columns: int, label: str = "yardstick") -> Tensor:
    """Return standard normal draws (rows, columns), float64, by the inverse of the distribution function of keyed bits.

    The same on every machine, and no global state is read. Equal labels and shapes, equal draws.
    """
    device = torch.device("cpu")
    own = Keys.of(counter_keys(derive_key("gaussian", label), torch.arange(rows, device=device)))
    across = stream_keys(derive_key("gaussian columns", label), columns, device)
    uniform = (bits(own.view(-1, 1), across.view(1, -1)).double() + (2.0**31 + 0.5)) / 2.0**32
    draws: Tensor = torch.special.ndtri(uniform)
    return draws


def _seen_step(recipe: Recipe, step: int) -> int:
    if recipe.format.scale == UNSCALED:
        return step
    return step % STEPS if recipe.format.scale == POWER_OF_TWO else 0


def _seen_length(recipe: Recipe, length: int, per_row: bool) -> int:
    fmt = recipe.format
    if fmt.columns == WHOLE or (per_row and fmt.scale != POWER_OF_TWO):
        return length
    return USUAL_LENGTH if length % fmt.columns == 0 else length
