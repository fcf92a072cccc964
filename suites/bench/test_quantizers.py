"""Fake quantization of 1536 x 8960 on one thread, as multiples of ``out.copy_(x)`` in the same run.

Ours with the C kernel and without it; torchao (eager); and two ways of writing MXFP4 in torch that are met elsewhere:
with floating-point logarithms, as microxcaling does, and the ancestor's.
"""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from harness.numerics import fake_quantize, native_quantizer
from harness.spec.formats import Recipe
from suites.bench.timing import ratios, threads
from suites.contract.format_peers import torchao, torchao_mx, torchao_nvfp4

pytestmark = pytest.mark.bench
ROWS, COLUMNS = 1536, 8960
FORMATS = ("mxfp4", "nvfp4", "mxfp8", "int8_channel")
TARGETS = {
    torch.float32: {"mxfp4": 2, "nvfp4": 3, "mxfp4 eager": 60},
    torch.bfloat16: {"mxfp4": 4, "nvfp4": 6, "mxfp4 eager": 60},
}


def logarithms(x):
    """MXFP4 in the manner of microxcaling: exponents by floor(log2), two divisions, round half to even."""
    blocks = x.float().view(-1, 32)
    largest = blocks.abs().amax(1, keepdim=True)
    shared = torch.floor(torch.log2(largest + 2.0**-126 * (largest == 0))) - 2
    scaled = blocks / 2**shared
    private = torch.floor(torch.log2(scaled.abs() + (scaled == 0))).clip(min=0)
    rounded = torch.round(scaled / 2**private * 2) / 2 * 2**private
    return (rounded.clamp(-6, 6) * 2**shared).view(x.shape).to(x.dtype)


def ancestor(x):
    """MXFP4 in the manner of the ancestor: one flat run of blocks, epsilons, a chain of comparisons."""
    flat = x.float().flatten()
    blocks = flat.reshape(-1, 32)
    largest = blocks.abs().max(dim=1, keepdim=True).values
    scale = torch.pow(2.0, torch.floor(torch.log2(largest + 1e-7)) - 2)
    scaled = blocks / (scale + 1e-7)
    magnitude, after = scaled.abs(), torch.zeros_like(scaled)
    for edge, value in ((0.25, 0.5), (0.75, 1), (1.25, 1.5), (1.75, 2), (2.5, 3), (3.5, 4), (5, 6)):
        after = torch.where(magnitude >= edge, torch.full_like(after, value), after)
    return (after * torch.sign(scaled) * scale).reshape(x.shape).to(x.dtype)


def eagerly(x, name, out):
    with mock.patch.object(native_quantizer, "fits", return_value=False):
        fake_quantize(x, name, out=out)


def peers(x):
    """torchao where it is there; it returns new tensors of float32."""
    modules = torchao()
    if modules is None:
        return {}
    return {
        "torchao mxfp4": lambda: torchao_mx(modules, x, "mxfp4", "floor"),
        "torchao nvfp4": lambda: torchao_nvfp4(modules, x),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_speed_of_quantizers(benchmark, dtype):
    x = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = torch.empty_like(x)
    ways = {name: lambda name=name: fake_quantize(x, name, out=out) for name in FORMATS}
    ways["mxfp4 stochastic"] = lambda: fake_quantize(x, "mxfp4", rounding="stochastic", out=out)
    slow = {
        "mxfp4 eager": lambda: eagerly(x, "mxfp4", out),
        "nvfp4 eager": lambda: eagerly(x, "nvfp4", out),
        **peers(x),
        "by logarithms": lambda: logarithms(x),
        "ancestor": lambda: ancestor(x),
    }
    assert all(native_quantizer.fits(x, Recipe.of(name), None) for name in FORMATS)
    with threads(1), torch.inference_mode():
        found = benchmark.pedantic(ratios, (lambda: out.copy_(x), ways, 15), rounds=1)
        found |= {name: ratio for name, ratio in ratios(lambda: out.copy_(x), slow, 3).items() if name != "seconds"}
    benchmark.extra_info |= {"dtype": str(dtype), **found}
    print(f"\n{dtype}, {ROWS} x {COLUMNS}, one thread, copy_ {found.pop('seconds') * 1e3:.1f} ms")
    print(f"{'':20}{'x copy_':>9}{'target':>9}")
    for name, ratio in found.items():
        print(f"{name:20}{ratio:9.2f}{TARGETS[dtype].get(name, ''):>9}")
