"""The whole sweep against the ancestor's way, at equal items, as a ratio in one run.

The ancestor's way, in our own words (SYSTEM.md sections 1 and 9): batch size 1; the model loaded anew for every
level; patched ``torch.matmul``, ``torch.bmm`` and ``F.linear`` that add ``randn_like(y) * |y| * scale`` and then
call ``.item()`` twice for a log line; one draw per level.

The shipped checkpoint in the default sweep; the real model in one of 16 items and answers of 24 tokens, where what a
sweep costs once (a second load for the replays, the positive control) is shared by fewer generations.
"""

from __future__ import annotations

import contextlib
import time

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.spec import EvalSpec
from suites.bench.models import FIXTURE, real_folder

pytestmark = pytest.mark.bench
LEVELS = (0.0, 0.05, 0.10)
SIZES = {"fixture": (200, 8, None), "real": (16, 3, 24)}
"""Name -> items of the sweep, items of the ancestor's way, and the longest answer (None: the task's)."""


@contextlib.contextmanager
def patched(scale):
    originals = {(owner, name): getattr(owner, name) for owner, name in PATCHED}

    def noisy(original):
        def function(*args, **kwargs):
            y = original(*args, **kwargs)
            if scale == 0:
                return y
            error = torch.randn_like(y) * y.abs() * scale
            error.abs().mean().item(), error.abs().max().item()
            return y + error

        return function

    for (owner, name), original in originals.items():
        setattr(owner, name, noisy(original))
    try:
        yield
    finally:
        for (owner, name), original in originals.items():
            setattr(owner, name, original)


PATCHED = ((torch, "matmul"), (torch, "bmm"), (functional, "linear"))


def ancestors_way(prepared, path=FIXTURE):
    """Generations of one seed per level, one by one."""
    for level in LEVELS:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
        with patched(level), torch.no_grad():
            for item in prepared.items:
                ids = torch.tensor([prepared.prompts[item.key]])
                limit = prepared.decoding.max_new_tokens
                model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False)


def per_generation(function, generations):
    begun = time.perf_counter()
    function()
    return (time.perf_counter() - begun) / generations


@pytest.mark.parametrize("name", list(SIZES))
def test_sweep_against_the_ancestors_way(benchmark, tmp_path, name):
    path = FIXTURE if name == "fixture" else real_folder()
    items, few, longest = SIZES[name]

    def asked(count, seeds):
        spec = EvalSpec("arith", items=count, levels=LEVELS, noise_seeds=seeds, max_new_tokens=longest)
        return prepare(path, spec, "cpu")

    small, full = asked(few, 1), asked(items, 5)
    begun = time.perf_counter()
    benchmark.pedantic(lambda: evaluate(full, tmp_path / "full"), rounds=1)
    ours = (time.perf_counter() - begun) / full.draws
    theirs = per_generation(lambda: ancestors_way(small, path), few * len(LEVELS))
    benchmark.extra_info |= {"seconds per generation": ours, "ancestor": theirs, "ancestor / ours": theirs / ours}
    print(
        f"\nsweep, {name}: {1000 * ours:.1f} ms per generation ({full.draws}), ancestor's way {1000 * theirs:.1f} ms "
        f"({few * len(LEVELS)}), ratio {theirs / ours:.1f}"
    )
