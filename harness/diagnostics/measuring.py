"""Measures tensors under several formats at once, beside what Gaussian data of their scales would give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.diagnostics.gaussian import RowScales, Yardstick
from harness.diagnostics.scan_result import Metrics
from harness.numerics.quant_measure import QuantSums
from harness.quant_error import QuantError
from harness.spec.formats import Recipe


class Measurement:
    """The sums of one tensor, or of all inputs of one module; matrices are (rows, contraction dimension)."""

    def __init__(self, recipes: Sequence[Recipe], per_row: bool) -> None:
        self.scales = RowScales()
        self.rows = self.length = 0
        self.dtype: torch.dtype = torch.float32
        self._per_row = per_row
        self._sums = {recipe: QuantSums() for recipe in recipes}

    def add(self, matrix: Tensor) -> None:
        """Quantize ``matrix`` under every recipe and add what that changed."""
        if not matrix.numel():
            return
        self.rows += matrix.shape[0]
        self.length, self.dtype = matrix.shape[1], matrix.dtype
        self.scales.add(matrix)
        for recipe, sums in self._sums.items():
            sums.add(matrix, recipe, per_row=self._per_row)

    def results(self, yardstick: Yardstick) -> Iterator[tuple[Recipe, QuantError, Metrics]]:
        """Yield what was measured under each recipe, and what Gaussian data would have given."""
        for recipe, sums in self._sums.items():
            expected = yardstick.expected(recipe, self.scales, self.length, self.dtype, self._per_row)
            yield recipe, sums.result(), expected
