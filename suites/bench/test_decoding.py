"""Noisy against clean greedy decoding, batch 64, same attention, interleaved medians, as ratios in one run."""

from __future__ import annotations

import pytest

from harness.engines.generation import generate
from harness.noise import NoiseSession, build_plan
from harness.spec import parse_noise
from suites.bench.models import NEVER_STOP, fixture_model, middle_model, prompts
from suites.bench.timing import ratios, threads

pytestmark = pytest.mark.bench
BATCH = 64
MODELS = {"fixture": (fixture_model, 9), "middle": (middle_model, 3)}
TARGETS = {
    ("fixture", "linear"): 1.4,
    ("middle", "linear"): 1.15,
    ("fixture", "matmul"): 1.6,
    ("middle", "matmul"): 1.2,
}


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
    build, rounds = MODELS[name]
    model = build("eager" if profile == "matmul" else "sdpa")
    plan = build_plan(model, parse_noise(f"relative_gaussian @ profile:{profile}"))
    batch = prompts(BATCH, model.config.vocab_size)
    ways = {"noisy / clean": lambda: noisy(model, batch, plan)}
    with threads(count):
        found = benchmark.pedantic(ratios, (lambda: clean(model, batch), ways, rounds), rounds=1)
    benchmark.extra_info |= {"model": name, "profile": profile, "threads": count, **found}
    ratio, target = found["noisy / clean"], TARGETS[name, profile]
    print(f"{name}, profile {profile}, {count} threads: ratio {ratio:.2f}, target {target}")
