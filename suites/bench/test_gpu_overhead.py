"""Noise on a GPU: a noisy against a clean bf16 forward of a 1.5B-shaped stack, and the kernel against a copy.

Ratios of one run, from device events around each pass, interleaved. The aim for the forward is a ratio of 1.08.
"""

from __future__ import annotations

import statistics

import pytest
import torch

from harness.noise.planner import build_plan
from harness.noise.session import NoiseSession
from harness.numerics import triton_kernel
from harness.numerics.keyed_random import derive_key, stream_keys
from harness.spec import parse_noise
from harness.testing import tiny_model

pytestmark = [pytest.mark.bench, pytest.mark.gpu]
TOKENS, ROUNDS, PASSES, AIM = 2048, 15, 5, 1.08


def accelerator():
    return torch.accelerator.current_accelerator()


def stack():
    """Four layers of the shape of Qwen2.5-1.5B with a small vocabulary, random weights, SDPA attention."""
    model = tiny_model(
        attention="sdpa",
        vocab_size=1024,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=4,
        num_attention_heads=12,
        max_position_embeddings=TOKENS,
    )
    return model.to(accelerator(), torch.bfloat16)


def milliseconds(function):
    """The time that ``PASSES`` calls take on the device, one call."""
    begin, end = (torch.Event(accelerator(), enable_timing=True) for _ in range(2))
    torch.accelerator.synchronize()
    begin.record()
    for _ in range(PASSES):
        function()
    end.record()
    torch.accelerator.synchronize()
    return begin.elapsed_time(end) / PASSES


def interleaved(first, second):
    """(median milliseconds of first, of second, median of the pairwise ratios second / first)."""
    for function in (first, second):  # compiles, and lets the clock rise
        milliseconds(function)
    pairs = [(milliseconds(first), milliseconds(second)) for _ in range(ROUNDS)]
    firsts, seconds = zip(*pairs, strict=True)
    return statistics.median(firsts), statistics.median(seconds), statistics.median(b / a for a, b in pairs)


@torch.inference_mode()
def test_noisy_against_clean_forward(benchmark):
    model = stack()
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    ids = torch.randint(0, 1024, (1, TOKENS), device=accelerator())

    def clean():
        return model(input_ids=ids, use_cache=False).logits

    def noisy():
        with NoiseSession(model, plan) as session, session.batch(["bench"], [0], 0.05):
            return model(input_ids=ids, use_cache=False).logits

    assert not torch.equal(clean(), noisy())
    before, after, ratio = benchmark.pedantic(interleaved, (clean, noisy), rounds=1)
    used = "used" if triton_kernel.available(accelerator()) else "not used"
    benchmark.extra_info |= {"clean_ms": before, "noisy_ms": after, "noisy / clean": ratio, "triton": used}
    print(f"{TOKENS} tokens, triton {used}: clean {before:.3f} ms, noisy {after:.3f} ms, ratio {ratio:.3f} (aim {AIM})")


@torch.inference_mode()
@pytest.mark.parametrize(("count", "width"), [(2048, 8960), (2048, 1536), (64, 8960), (64, 1536)])
def test_the_kernel_against_a_copy(benchmark, count, width):
    """A copy reads and writes y once: what memory alone would allow."""
    device = accelerator()
    if not triton_kernel.available(device):
        pytest.skip("no triton for this device")
    y = torch.randn(count, width, dtype=torch.bfloat16, device=device)
    rows = stream_keys(derive_key("r"), count, device)
    columns = stream_keys(derive_key("c"), width, device)
    scale, real = torch.tensor(0.05, device=device), torch.ones(count, dtype=torch.bool, device=device)
    copied, perturbed, ratio = benchmark.pedantic(
        interleaved, (y.clone, lambda: triton_kernel.perturb_rows(y, rows, columns, scale, real)), rounds=1
    )
    benchmark.extra_info |= {"copy_ms": copied, "kernel_ms": perturbed, "kernel / copy": ratio}
    print(f"{count} x {width} bf16: copy {copied * 1e3:.1f} us, kernel {perturbed * 1e3:.1f} us, ratio {ratio:.2f}")
