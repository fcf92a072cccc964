"""Fake quantization on an accelerator: the bits of the CPU in every format, rule, rounding and dtype."""

from __future__ import annotations

import pytest
import torch

from harness.numerics import fake_quantize
from harness.spec.formats import FORMATS, ROUNDINGS, SCALE_RULES

pytestmark = [pytest.mark.contract, pytest.mark.gpu]
CASES = [(name, rule) for name, row in FORMATS.items() for rule in (SCALE_RULES if row.has_scale_rule else ("floor",))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(("name", "rule"), CASES)
def test_the_bits_of_the_cpu(name, rule, rounding, dtype):
    generator = torch.Generator().manual_seed(3)
    x = (torch.randn(96, 200, generator=generator) * torch.logspace(-6, 4, 96)[:, None]).to(dtype)
    x[5], x[7, 3], x[9, 50] = 0, float("nan"), float("inf")
    if FORMATS[name].rows == 0:
        x = x[10:]  # one scale for all: NaN would spoil it
    here = fake_quantize(x, name, rule, rounding)
    there = fake_quantize(x.to(torch.accelerator.current_accelerator()), name, rule, rounding).cpu()
    assert torch.equal(here.isnan(), there.isnan())
    assert torch.equal(here.nan_to_num(7.5), there.nan_to_num(7.5))
