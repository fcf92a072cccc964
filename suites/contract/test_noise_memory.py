"""No temporary is larger than the tensor perturbed: seen at the dispatcher, for every error model and precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.noise.kernel import Kernel
from harness.numerics.keyed_random import DrawKey, derive_key, stream_keys
from harness.spec.errors import ERROR_MODELS

pytestmark = pytest.mark.contract
ROWS, COLUMNS = 2048, 640
CPU = torch.device("cpu")


class Largest(TorchDispatchMode):
    """The largest storage that any operator inside makes, in bytes; views make none."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, Tensor) and not func.is_view:
                self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", list(ERROR_MODELS))
@pytest.mark.parametrize("compiled", [False, True])
def test_no_temporary_is_larger_than_the_tensor(name, dtype, compiled):
    y = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)).to(dtype)
    key = DrawKey(
        stream_keys(derive_key("r"), ROWS, CPU).view(-1, 1), stream_keys(derive_key("c"), COLUMNS, CPU).view(1, -1)
    )
    error, real = ERROR_MODELS[name](), torch.ones(ROWS, 1, dtype=torch.bool)
    with torch.no_grad(), Largest() as seen:
        after, _ = Kernel(compiled).perturb(error, y, key, 0.05, real)
    assert after.dtype == dtype
    assert 0 < seen.bytes <= y.untyped_storage().nbytes()


def test_the_measure_sees_a_large_temporary():
    y = torch.randn(64, 64)
    with Largest() as seen:
        y.double().float()
    assert seen.bytes == 2 * y.untyped_storage().nbytes()
