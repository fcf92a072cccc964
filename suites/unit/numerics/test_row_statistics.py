"""Statistics of rows: elements that are not finite do not count, and the order of summation does not show."""

from __future__ import annotations

import math

import pytest
import torch

from harness.numerics.row_statistics import largest_magnitude, spread, widened

pytestmark = pytest.mark.unit
ROWS = torch.tensor([[1.0, -3.0, math.inf, 2.0], [math.nan, 0.5, 0.5, 0.5], [math.nan, math.inf, -math.inf, math.nan]])


def test_what_is_not_finite_does_not_count() -> None:
    assert largest_magnitude(ROWS).tolist() == [[3.0], [0.5], [0.0]]
    found = spread(ROWS)
    assert found[0].item() == pytest.approx(torch.tensor([1.0, -3.0, 2.0]).std(correction=0).item())
    assert found[1].item() == 0.0 and math.isnan(found[2].item())


def test_strides_do_not_show() -> None:
    values = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(spread(values), spread(values.T.contiguous().T))


@pytest.mark.parametrize(
    ("given", "wide"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)]
)
def test_the_precision_to_compute_in(given: torch.dtype, wide: torch.dtype) -> None:
    assert widened(torch.ones(2, dtype=given)).dtype == wide and spread(torch.ones(1, 2, dtype=given)).dtype == given
