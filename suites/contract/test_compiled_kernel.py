"""Law 3 under a compiler: the same bits and the same counts as eager, in every precision and arrangement."""

import pytest
import torch

from harness.noise.kernel import Kernel
from harness.numerics import compiled_c, native
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, derive_key, stream_keys
from harness.spec.errors import RelativeGaussian

pytestmark = pytest.mark.contract
CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def random(shape, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def arguments(rows, columns, dtype, scale=0.05):
    keys = DrawKey(
        stream_keys(derive_key("r"), rows, CPU).view(rows, 1), stream_keys(derive_key("c"), columns, CPU).view(1, -1)
    )
    real = torch.arange(rows).view(rows, 1) % 5 != 4
    return RelativeGaussian(), random((rows, columns), dtype), keys, scale, real


def scores(dtype, scale=0.05):
    """Attention scores (batch 2, heads 3, tokens 5, keys 7) with a mask for every element."""
    rows = Keys.of(counter_keys(3, torch.arange(10))).view(2, 1, 5, 1)
    columns = Keys.of(counter_keys(4, torch.arange(42))).view(2, 3, 1, 7)
    real = torch.arange(70).view(2, 1, 5, 7) % 3 != 0
    return RelativeGaussian(), random((2, 3, 5, 7), dtype), DrawKey(rows, columns), scale, real


def agree(given):
    (after, sums), (compiled, measured) = Kernel(compiled=False).perturb(*given), Kernel().perturb(*given)
    assert torch.equal(after.nan_to_num(7), compiled.nan_to_num(7))
    assert torch.equal(after.isnan(), compiled.isnan())
    assert torch.equal(sums[..., :3], measured[..., :3])
    assert torch.allclose(sums[..., 3:], measured[..., 3:], rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_and_eager_agree_bit_for_bit(dtype):
    assert native.available(dtype)
    for shape in ((37, 50), (5, 200), (64, 33), (1, 1), (3, 17)):
        for scale in (0.0, 0.05, 1.0):
            agree(arguments(*shape, dtype, scale))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_agree_bit_for_bit(dtype):
    assert native.fits(*(scores(dtype)[index] for index in (1, 2, 4)))
    agree(scores(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_pattern_agrees(dtype):
    given = list(arguments(256, 256, dtype))
    given[1] = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).view(256, 256)
    for scale in (0.0, 0.05, 1.0):
        given[3] = scale
        agree(given)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(monkeypatch, threads):
    monkeypatch.setattr(compiled_c, "PARALLEL_FROM", 10)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    agree(arguments(7, 50, torch.float32))


def test_a_compiler_does_not_measure_what_rounding_swallowed():
    """bf16 cannot carry 1e-4: fused naively, a compiled pass measures the error before it is rounded away."""
    given = arguments(37, 50, torch.bfloat16, 1e-4)
    after, sums = Kernel().perturb(*given)
    assert torch.equal(after, given[1])
    assert sums[:, 0].sum() == 0
