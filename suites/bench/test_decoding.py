"""Noisy against clean greedy decoding, batch 64, same attention, interleaved medians, as ratios in one run."""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from harness.evaluate.generation import greedy
from harness.noise.plan import build_plan
from harness.noise.session import NoiseSession
from harness.spec import parse_noise
from suites.bench.models import NEVER_STOP, fixture_model, middle_model, prompts

pytestmark = pytest.mark.bench
BATCH = 64


def clean(model, batch):
    greedy(model, batch, NEVER_STOP)


def noisy(model, batch, plan):
    items, seeds = [prompt.item for prompt in batch], [prompt.seed for prompt in batch]
    with NoiseSession(model, plan, compiled=True) as session, session.batch(items, seeds, 0.05):
        greedy(model, batch, NEVER_STOP, session)
        session.ledger.drain(0.05)


def interleaved(first, second, rounds):
    """(median seconds of first, of second, median of the pairwise ratios second / first)."""
    pairs = []
    for _ in range(rounds):
        times = []
        for function in (first, second):
            begun = time.perf_counter()
            function()
            times.append(time.perf_counter() - begun)
        pairs.append(times)
    firsts, seconds = zip(*pairs, strict=True)
    return statistics.median(firsts), statistics.median(seconds), statistics.median(b / a for a, b in pairs)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("name", "build", "rounds"), [("fixture", fixture_model, 7), ("middle", middle_model, 3)])
def test_noisy_against_clean_decoding(benchmark, name, build, rounds, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = build()
        plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
        batch = prompts(BATCH, model.config.vocab_size)
        clean(model, batch[:2]), noisy(model, batch[:2], plan)
        seconds_clean, seconds_noisy, ratio = benchmark.pedantic(
            interleaved, (lambda: clean(model, batch), lambda: noisy(model, batch, plan), rounds), rounds=1
        )
    finally:
        torch.set_num_threads(before)
    benchmark.extra_info |= {"model": name, "threads": threads, "clean_s": seconds_clean, "noisy_s": seconds_noisy}
    benchmark.extra_info["noisy / clean"] = ratio
    print(f"{name}, {threads} threads: clean {seconds_clean:.3f} s, noisy {seconds_noisy:.3f} s, ratio {ratio:.2f}")
