"""The Triton kernel on an accelerator: the bits of the CPU, no synchronisation, rows beyond 2**31 elements."""

from __future__ import annotations

import pytest
import torch

from harness.numerics import triton_kernel
from harness.numerics.keyed_random import Keys, derive_key, normals, stream_keys
from suites.unit.numerics.triton_cases import arguments, bits, check

pytestmark = [pytest.mark.contract, pytest.mark.gpu]
SHAPES = ((1, 1), (3, 7), (64, 130), (5, 1000), (64, 1536), (300, 8960), (2, 151936))
GIB = 1 << 30


def accelerator():
    return torch.accelerator.current_accelerator()


def there(y, rows, columns, scale, real):
    """The arguments on the accelerator."""
    device = accelerator()
    moved = [Keys(*(half.to(device) for half in keys)) for keys in (rows, columns)]
    return y.to(device), *moved, scale.to(device), real.to(device)


def needs_cuda():
    if accelerator().type != "cuda":
        pytest.skip("torch offers this on CUDA and ROCm only")


def test_the_kernel_is_used_here():
    assert triton_kernel.available(accelerator())


@pytest.mark.parametrize("scale", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", triton_kernel.DTYPES, ids=str)
def test_the_bits_and_sums_of_the_cpu(dtype, shape, scale):
    given = arguments(dtype, shape, scale)
    after, sums = triton_kernel.perturb_rows(*there(*given))
    check(after.cpu(), sums.cpu(), *given)


@pytest.mark.parametrize("dtype", triton_kernel.DTYPES, ids=str)
def test_every_value_of_a_dtype_rounds_as_on_the_cpu(dtype):
    """All patterns of a 16-bit dtype, as many random ones of float32: subnormal, infinite and NaN among them."""
    patterns = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16)
    if dtype == torch.float32:
        patterns = torch.randint(-(1 << 31), 1 << 31, (1 << 16,), generator=torch.Generator().manual_seed(0))
        patterns = patterns.to(torch.int32)
    _, *rest = arguments(dtype, (256, 256), 0.05)
    given = patterns.view(dtype).view(256, 256), *rest
    after, _ = triton_kernel.perturb_rows(*there(*given))
    y, rows, columns, scale, _ = given
    wide = y.float()
    expected = (wide + wide * (scale * normals(rows.view(-1, 1), columns.view(1, -1)))).to(dtype)
    finite = torch.isfinite(y)
    apart = finite & (y != 0)
    assert torch.equal(bits(after.cpu())[apart], bits(expected)[apart])
    assert torch.equal(bits(after.cpu())[~finite], bits(y)[~finite])


def test_nothing_synchronises():
    needs_cuda()
    given = there(*arguments(torch.bfloat16, (64, 8960), 0.05))
    triton_kernel.perturb_rows(*given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        triton_kernel.perturb_rows(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_it_replays_in_a_graph_with_another_scale_and_input():
    needs_cuda()
    y, rows, columns, scale, real = there(*arguments(torch.bfloat16, (64, 8960), 0.05))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # a capture may not be the first run
        triton_kernel.perturb_rows(y, rows, columns, scale, real)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        after, sums = triton_kernel.perturb_rows(y, rows, columns, scale, real)
    y.mul_(3)
    scale.fill_(0.5)
    graph.replay()
    expected, expected_sums = triton_kernel.perturb_rows(y, rows, columns, scale, real)
    assert torch.equal(bits(after), bits(expected))
    torch.testing.assert_close(sums, expected_sums, rtol=0, atol=0, equal_nan=True)


def test_elements_beyond_int32():
    """The last rows of a tensor of more than 2**31 elements are those that they are alone."""
    needs_cuda()
    count, width, device = 14400, 151936, accelerator()
    if torch.cuda.mem_get_info(device)[0] < 12 * GIB:
        pytest.skip("needs 12 GiB of free memory")
    rows = stream_keys(derive_key("rows"), count, device)
    columns = stream_keys(derive_key("columns"), width, device)
    y = torch.ones(count, width, dtype=torch.bfloat16, device=device)
    scale, real = torch.tensor(0.05, device=device), torch.ones(count, dtype=torch.bool, device=device)
    after, sums = triton_kernel.perturb_rows(y, rows, columns, scale, real)
    last = Keys(rows.low[-2:], rows.high[-2:])
    alone, alone_sums = triton_kernel.perturb_rows(y[-2:], last, columns, scale, real[-2:])
    assert torch.equal(after[-2:], alone)
    torch.testing.assert_close(sums[-2:], alone_sums, rtol=1e-5, atol=0)
