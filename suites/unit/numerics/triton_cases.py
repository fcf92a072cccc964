"""Arguments for the Triton kernel, and the comparison with the eager kernel: in the interpreter and on a GPU."""

import math

import torch

from harness.noise.kernel import MEASURES, Kernel
from harness.numerics.keyed_random import DrawKey, derive_key, stream_keys
from harness.spec.errors import RelativeGaussian

CPU = torch.device("cpu")
INTEGER = {2: torch.int16, 4: torch.int32}


def arguments(dtype, shape, scale):
    """Values of all sizes with the special ones in front, random keys, and padding in every third row."""
    count, width = shape
    generator = torch.Generator().manual_seed(count * width)
    y = torch.randn(shape, generator=generator) * 10 ** torch.empty(shape).uniform_(-4, 4, generator=generator)
    info = torch.finfo(dtype)
    specials = [-0.0, 0.0, math.nan, math.inf, -math.inf, info.max, -info.max, info.smallest_normal, -info.tiny / 4]
    for row in range(0, count, 4):  # the other rows have finite sums
        y[row, : len(specials)] = torch.tensor(specials, dtype=torch.float64).float()[:width]
    rows = stream_keys(derive_key("rows", count), count, CPU)
    columns = stream_keys(derive_key("columns", width), width, CPU)
    return y.to(dtype), rows, columns, torch.tensor(scale), torch.arange(count) % 3 != 2


def check(after, sums, y, rows, columns, scale, real):
    """That ``after`` has the bits of the eager kernel, except that a NaN keeps those of ``y``, and ``sums`` agree."""
    key = DrawKey(rows.view(-1, 1), columns.view(1, -1))
    expected, measured = Kernel(compiled=False).perturb(RelativeGaussian(), y, key, scale, real.view(-1, 1))
    assert after.dtype == y.dtype
    unset, kept = torch.isnan(expected), ~torch.isfinite(y)
    assert torch.equal(bits(after)[~unset], bits(expected)[~unset])
    assert torch.equal(bits(after)[kept], bits(y)[kept]) and torch.equal(torch.isnan(after), unset)
    assert sums.dtype == torch.float32 and sums.shape == measured.shape == (y.shape[0], len(MEASURES))
    assert torch.equal(sums[:, :3], measured[:, :3])
    torch.testing.assert_close(sums[:, 3:], measured[:, 3:], rtol=1e-5, atol=0, equal_nan=True)


def bits(x):
    """The bits, as integers that can be compared."""
    return x.view(INTEGER[x.element_size()])
