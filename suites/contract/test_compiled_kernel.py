"""Law 3 under a compiler: the same bits and the same counts as eager, in every precision."""

import pytest
import torch

from harness.noise.kernel import Kernel
from harness.numerics.keyed_random import derive_key, stream_keys

pytestmark = pytest.mark.contract
CPU = torch.device("cpu")


def arguments(rows, columns, dtype, scale=0.05):
    y = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(dtype)
    keys = stream_keys(derive_key("r"), rows, CPU).view(rows, 1), stream_keys(derive_key("c"), columns, CPU).view(1, -1)
    return y, *keys, torch.tensor(scale), torch.ones(rows, 1, dtype=torch.bool)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_compiled_and_eager_agree_bit_for_bit(dtype):
    eager, compiled = Kernel(compiled=False), Kernel(compiled=True)
    for shape in ((37, 50), (5, 200), (64, 33)):
        given = arguments(*shape, dtype)
        (after, sums), (after_compiled, sums_compiled) = eager.perturb(*given), compiled.perturb(*given)
        assert torch.equal(after, after_compiled)
        assert torch.equal(sums[:, :3], sums_compiled[:, :3])
        assert torch.allclose(sums[:, 3:], sums_compiled[:, 3:], rtol=1e-5)


def test_a_compiler_does_not_measure_what_rounding_swallowed():
    """bf16 cannot carry 1e-4: fused naively, the compiled pass measured the error before it was rounded away."""
    y, *rest = arguments(37, 50, torch.bfloat16, 1e-4)
    after, sums = Kernel(compiled=True).perturb(y, *rest)
    assert torch.equal(after, y)
    assert sums[:, 0].sum() == 0
