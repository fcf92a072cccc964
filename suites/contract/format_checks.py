"""What the format tests share: both implementations at once, and equality of bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.numerics import fake_quantize
from harness.numerics.blocks import quantize
from harness.spec.formats import Recipe
from suites.contract.format_data import numpy_of
from suites.contract.format_reference import reference


def differing(a: Tensor, b: Tensor) -> Tensor:
    """Bool: where values, the sign of zero or being NaN differ."""
    a, b = a.double(), b.double()
    return ~(((a == b) & (torch.signbit(a) == torch.signbit(b))) | (a.isnan() & b.isnan()))


def assert_same(got: Tensor, want: Tensor, x: Tensor, what: object = "") -> None:
    """Equal bits but for the payload of NaN; else shows the first elements that differ."""
    assert got.shape == want.shape
    wrong = differing(got, want)
    first = [(x[tuple(at)].item(), got[tuple(at)].item(), want[tuple(at)].item()) for at in wrong.nonzero()[:3]]
    assert not first, f"{what}: {int(wrong.sum())} of {got.numel()} differ; (x, got, want): {first}"


def ours(x: Tensor, name: str, rule: str = "floor") -> Tensor:
    """``fake_quantize`` of the matrix ``x``, after a look that the eager code gives the same."""
    after = fake_quantize(x, name, rule)
    assert after.dtype == x.dtype
    assert_same(after, quantize(x, Recipe.of(name, rule)).values.to(x.dtype), x, f"{name} {rule}, kernel and eager")
    return after


def wanted(x: Tensor, name: str, rule: str = "floor") -> Tensor:
    """The reference, in the dtype of ``x``."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(reference(numpy_of(x), name, rule)).to(x.dtype)
