"""A whole forward with noise on every linear and attention product, against the clean one, as ratios in one run.

Two layers in the shape of Qwen2.5-1.5B, 256 tokens. Beside it the ancestor's expression and ``addcmul_`` with
``randn_like``, at the same products.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.nn import functional

from harness.noise import NoiseSession, build_plan
from harness.spec import parse_noise
from suites.bench.models import stack_model
from suites.bench.timing import ratios, threads

pytestmark = pytest.mark.bench
TOKENS, SCALE = 256, 0.05
TARGETS = {torch.float32: 1.03, torch.bfloat16: 1.12}


def ancestor(y):
    """Five temporaries, and the two readings for its log that were taken whether it was shown or not."""
    error = torch.randn_like(y) * y.abs() * SCALE
    error.abs().mean().item(), error.abs().max().item()
    return y + error


def addcmul(y):
    return y.addcmul_(y, torch.randn_like(y), value=SCALE)


@contextlib.contextmanager
def patched(change):
    linear, matmul = functional.linear, torch.matmul
    functional.linear = lambda *args: change(linear(*args))
    torch.matmul = lambda *args: change(matmul(*args))
    try:
        yield
    finally:
        functional.linear, torch.matmul = linear, matmul


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_overhead_of_a_forward(benchmark, dtype, count):
    model = stack_model(layers=2).to(dtype)
    ids = torch.randint(0, 1024, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    plan = build_plan(model, parse_noise("relative_gaussian @ profile:matmul"))

    def clean():
        model(input_ids=ids, use_cache=False)

    session = NoiseSession(model, plan, in_place=True)

    def noisy():
        with session, session.batch(["item"], [0], SCALE):
            clean()
            session.ledger.drain(SCALE)

    def by_hand(change):
        with patched(change):
            clean()

    ways = {"keyed": noisy, "ancestor": lambda: by_hand(ancestor), "addcmul_": lambda: by_hand(addcmul)}
    with threads(count), torch.inference_mode():
        found = benchmark.pedantic(ratios, (clean, ways, 7), rounds=1)
    benchmark.extra_info |= {"dtype": str(dtype), "threads": count, **found}
    print(f"{dtype}, {count} threads, clean {found['seconds']:.3f} s, target {TARGETS[dtype]}: {found}")
