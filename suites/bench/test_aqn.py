"""Apply and restore of AQN on one thread, as multiples of one copy of the touched weights in the same run.

"again": the weights are those of the last apply (a frozen base under LoRA). "anew": they were loaded anew, as after
each synchronisation of a full fine-tuning.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.aqn.config import AqnConfig, constant
from harness.aqn.holder import ModuleHolder
from harness.aqn.session import Aqn
from harness.aqn.targets import LINEAR, RMSNORM, Targets
from suites.bench.timing import ratios, threads

pytestmark = pytest.mark.bench
TARGET = 5
WIDTH, LAYERS, NORMS = 1536, 8, 57


class RMSNorm(nn.Module):
    """The gain of one, under the name that counts."""

    def __init__(self, width, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, dtype=dtype))


def model_of(kind, dtype):
    model = nn.Module()
    if kind == LINEAR:
        model.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False, dtype=dtype) for _ in range(LAYERS))
    else:
        model.layers = nn.ModuleList(RMSNorm(WIDTH, dtype) for _ in range(NORMS))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", [LINEAR, RMSNORM])
def test_apply_and_restore(benchmark, kind, dtype):
    model = model_of(kind, dtype)
    sigma = 0.005 if kind == LINEAR else 0.05
    aqn = Aqn(ModuleHolder(model), AqnConfig(constant(sigma), Targets((kind,))))
    weights = [layer.weight.data for layer in model.layers]
    copies = [weight.clone() for weight in weights]
    others = [(1.01 * weight).to(dtype) for weight in weights]
    turn = [others, copies]

    def copy():
        for weight, other in zip(weights, copies, strict=True):
            other.copy_(weight)

    def again():
        aqn.apply(0)
        aqn.restore()

    def anew():
        turn.reverse()
        for weight, other in zip(weights, turn[0], strict=True):
            weight.copy_(other)
        again()

    with threads(1), torch.no_grad():
        found = benchmark.pedantic(ratios, (copy, {"again": again, "anew, with its copy": anew}, 15), rounds=1)
    benchmark.extra_info |= {"dtype": str(dtype), "kind": kind, **found}
    elements = sum(weight.numel() for weight in weights)
    print(f"\n{kind}, {dtype}, {len(weights)} weights of {elements:,} elements, copy {found['seconds'] * 1e3:.2f} ms")
    print(f"{'':20}{'x copy':>9}{'target':>9}")
    for name in ("again", "anew, with its copy"):
        print(f"{name:20}{found[name]:9.2f}{TARGET + (name != 'again'):>9}")
