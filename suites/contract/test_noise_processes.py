"""Laws 3 and 10 over processes and threads: the same bits wherever they are drawn, and counts that add up."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.ledger import from_json, merge
from harness.noise import NoiseSession, noisy
from harness.record import FORWARD
from suites.contract import noise_child
from suites.contract import noise_value_laws as value_laws
from suites.contract.noise_models import ITEMS, batch, build, noisy_run, numbers, passes, plan_of, same, same_bits

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def other_process():
    """What another process got and counted."""
    command = [sys.executable, "-m", noise_child.__name__]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_another_process_gets_the_same_bits(other_process):
    assert other_process["bits"] == noise_child.bits()


def test_ledgers_of_two_processes_are_that_of_one(other_process):
    here, there = from_json(noise_child.part(slice(0, 1))), from_json(other_process["ledger"])
    whole = {count.label: count for count in from_json(noise_child.part(slice(0, 3)))}
    assert {count.process for count in here}.isdisjoint(count.process for count in there)
    assert len(merge([*here, *there])) == len(here) + len(there), "processes stay apart unless asked"
    value_laws.same_totals(merge([*here, *there], across_processes=True), whole)


def rows(index):
    """The index-th item alone, without padding."""
    return {"input_ids": batch(padded=False)["input_ids"][index : index + 1]}


def test_threads_with_models_and_sessions_of_their_own():
    plan = plan_of("qwen2", "profile:all-ops when:both", "functions")
    alone = [noisy_run(build(), plan, seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: noisy_run(build(), plan, seed=seed), range(4)))
    for first, second in zip(alone, found, strict=True):
        assert same(first, second)
        assert first.counts == second.counts


@pytest.mark.parametrize("way", ["auto", "functions"])
def test_threads_that_share_a_session_and_a_model(way):
    """Each names its own batch; nothing of one thread shows in another, and all is counted once."""
    plan = plan_of("qwen2", "profile:all-ops", way)
    model = build()
    ready = threading.Barrier(3)

    def run(session, index):
        ready.wait()
        for _ in range(3):
            with session.batch(ITEMS[index : index + 1], [index], 0.05), torch.no_grad():
                logits = model(**rows(index), use_cache=False).logits
        return logits

    with NoiseSession(model, plan) as session:
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda index: run(session, index), range(3)))
        counted = session.ledger.drain(0.05)
    once = {}
    for index, logits in enumerate(found):
        with NoiseSession(model, plan) as session:
            with session.batch(ITEMS[index : index + 1], [index], 0.05), torch.no_grad():
                assert same_bits(model(**rows(index), use_cache=False).logits, logits)
            once[index] = session.ledger.drain(0.05)
    for label, numbers_of_all in numbers(counted).items():
        each = [numbers(once[index])[label] for index in range(3)]
        assert numbers_of_all == tuple(3 * sum(column) for column in zip(*each, strict=True)), label


def test_a_weight_is_shown_to_one_thread_at_a_time():
    """Backward noise shows a module another weight while it runs: two threads in one model are refused, not mixed."""
    model = build()
    entered, leave = threading.Event(), threading.Event()

    def wait(*ignored):
        entered.set()
        assert leave.wait(30)

    with noisy(model, "relative_gaussian(0.1) @ op:linear when:both", checked=False):
        handle = model.lm_head.register_forward_pre_hook(wait)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(passes, model)
            try:
                assert entered.wait(30)
                handle.remove()
                with pytest.raises(Exception, match="copy the model"):
                    passes(model)
            finally:
                leave.set()
            first.result()
    assert "weight" not in vars(model.lm_head)


@pytest.mark.parametrize("way", ["auto", "functions"])
def test_data_parallel_without_devices_calls_the_module(way):
    model = build()
    spec = "relative_gaussian(0.1) @ op:linear,silu when:both"
    with noisy(model, spec, way=way) as noise:
        alone = passes(model)
        noise.require(direction=FORWARD, calls=17)
    with noisy(model, spec, way=way) as noise:
        wrapped = passes(model, nn.DataParallel(model))
        noise.require(direction=FORWARD, calls=17)
    with noisy(nn.DataParallel(model), spec, way=way) as noise:
        passes(model, noise.sessions[0].model)
        noise.require(direction=FORWARD, calls=17)
    assert same(alone, wrapped)
