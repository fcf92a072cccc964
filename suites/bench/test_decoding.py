"""Noisy against clean greedy decoding, same attention, interleaved medians, as ratios in one run.

A batch of 64 prompts of 100 to 140 tokens; of the real model 16 of 30 to 45, because it is a hundred times as large.
"""

from __future__ import annotations

import pytest

from harness.engines.generation import generate
from harness.noise import NoiseSession, build_plan
from harness.spec import parse_noise
from suites.bench.models import NEVER_STOP, fixture_model, middle_model, prompts, real_model
from suites.bench.timing import ratios, threads

pytestmark = pytest.mark.bench
MODELS = {
    "fixture": (fixture_model, 9, (64, 100, 140)),
    "middle": (middle_model, 3, (64, 100, 140)),
    "real": (real_model, 3, (16, 30, 45)),
}
"""Name -> how it is built, rounds, and the batch: how many prompts, the shortest, the longest."""
TARGETS = {
    ("fixture", "linear"): (1.2, 1.3),
    ("middle", "linear"): (1.05, 1.05),
    ("real", "linear"): (1.05, 1.05),
    ("fixture", "matmul"): (1.6, 1.6),
    ("middle", "matmul"): (1.2, 1.2),
}
"""With one thread, and with two."""


def clean(model, batch):
    generate(model, batch, NEVER_STOP)


def noisy(model, batch, plan):
    items, seeds = [prompt.item for prompt in batch], [prompt.seed for prompt in batch]
    with NoiseSession(model, plan, in_place=True) as session, session.batch(items, seeds, 0.05):
        generate(model, batch, NEVER_STOP, session)
        session.ledger.drain(0.05)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("name", "profile"), list(TARGETS))
def test_noisy_against_clean_decoding(benchmark, name, profile, count):
    build, rounds, (size, shortest, longest) = MODELS[name]
    model = build("eager" if profile == "matmul" else "sdpa")
    plan = build_plan(model, parse_noise(f"relative_gaussian @ profile:{profile}"))
    batch = prompts(size, model.config.vocab_size, shortest, longest)
    ways = {"noisy / clean": lambda: noisy(model, batch, plan)}
    with threads(count):
        found = benchmark.pedantic(ratios, (lambda: clean(model, batch), ways, rounds), rounds=1)
    benchmark.extra_info |= {"model": name, "profile": profile, "threads": count, **found}
    ratio, target = found["noisy / clean"], TARGETS[name, profile][count - 1]
    print(f"{name}, profile {profile}, {count} threads: ratio {ratio:.2f}, target {target}")
