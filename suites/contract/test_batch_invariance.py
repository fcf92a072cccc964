"""Law 3: the same key gives the same draw, whatever the batch size, padding or order; and mutants of the key fail."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from harness.engines.generation import Prompt, generate
from harness.engines.protocol import Batch
from harness.engines.transformers import run_batch
from harness.evaluate.prepared import prepare
from harness.noise import frames, injector
from harness.noise import session as session_module
from harness.noise.kernel import Kernel
from harness.noise.planner import build_plan
from harness.noise.session import NoiseSession
from harness.numerics.keyed_random import derive_key, normals
from harness.spec import EvalSpec, parse_noise

pytestmark = pytest.mark.contract
LEVELS = (0.0, 0.10)


def records(prepared, level, size, order=None, count=28):
    """item -> (tokens, answer, score) of ``count`` items in batches of ``size``."""
    prompts = [prompt_of(prepared, item.key) for item in prepared.items[:count]]
    if order is not None:
        random.Random(order).shuffle(prompts)
    found = {}
    with NoiseSession(prepared.checkpoint.model, prepared.plan) as session:
        for start in range(0, len(prompts), size):
            results, _ = run_batch(prepared, session, Batch(level, tuple(prompts[start : start + size])))
            session.ledger.drain(level)
            found |= {result.item: (result.tokens, result.answer, result.score) for result in results}
    return found


def prompt_of(prepared, key):
    return Prompt(key, 0, prepared.prompts[key])


@pytest.fixture(scope="module")
def reference(prepared_matmul):
    return {level: records(prepared_matmul, level, 28) for level in LEVELS}


@pytest.mark.parametrize("level", LEVELS)
def test_batches_of_seven_in_shuffled_order_give_the_same_records(prepared_matmul, reference, level):
    assert records(prepared_matmul, level, 7, order=1) == reference[level]


@pytest.mark.parametrize("level", LEVELS)
def test_one_by_one_gives_the_same_records(prepared_matmul, reference, level):
    alone = records(prepared_matmul, level, 1, count=6)
    assert alone == {item: reference[level][item] for item in alone}


def test_shuffled_whole_batches_give_the_same_records(prepared_matmul, reference):
    assert records(prepared_matmul, 0.10, 28, order=2) == reference[0.10]


@pytest.mark.parametrize(
    ("noise", "level", "attention"),
    [
        ("relative_gaussian @ profile:all-ops", 0.05, "auto"),
        ("relative_gaussian @ op:add,mul", 0.02, "sdpa"),
        ("relative_gaussian @ op:mul", 0.2, "eager"),  # scores are scaled: (batch, heads, tokens, padded keys)
        ("relative_gaussian @ op:add", 0.2, "eager"),
        ("relative_gaussian @ scope:mlp key:shared", 0.05, "auto"),
        ("deadzone @ op:linear,pv,silu,rms_norm", 0.02, "auto"),  # a row statistic: its rows must be those of one token
        ("spike @ op:linear", 0.001, "auto"),
    ],
)
def test_other_operators_and_error_models_give_the_same_records_too(shipped, noise, level, attention):
    spec = EvalSpec(
        *("arith", None, 12), levels=(0.0, level), noise=parse_noise(noise), max_new_tokens=24, attention=attention
    )
    prepared = prepare(shipped, spec, "cpu")
    assert records(prepared, level, 12) == records(prepared, level, 5, order=3)


def by_batch_row(items, seeds, key_mode="item"):
    return torch.tensor([derive_key("row", seed, str(row)) for row, seed in enumerate(seeds)])


def test_mutant_keyed_by_batch_row_is_caught(prepared_matmul, reference, monkeypatch):
    monkeypatch.setattr(session_module, "row_bases", by_batch_row)
    first, second = (records(prepared_matmul, 0.10, size, count=24) for size in (24, 7))
    assert sum(first[item] != second[item] for item in first) >= 3


def test_mutant_keyed_by_padded_column_is_caught(prepared_matmul, monkeypatch):
    honest = frames.Rows.of.__func__

    def padded(cls, bases, mask, tokens, past):
        found = honest(cls, bases, mask, tokens, past)
        columns = torch.arange(past, past + tokens).expand(len(bases), tokens)
        return replace(found, keys=frames.counter_keys(bases[:, None], columns))

    monkeypatch.setattr(frames.Rows, "of", classmethod(padded))
    first, second = (records(prepared_matmul, 0.10, size, order, count=24) for size, order in ((24, None), (7, 5)))
    assert sum(first[item] != second[item] for item in first) >= 3


def drawn(monkeypatch, model, spec, items=("a",), seeds=(0,)):
    """Draws of every site in one forward over 12 equal tokens, in order of the calls."""
    seen = []
    honest = Kernel.perturb

    def recording(self, error, y, key, *rest):
        seen.append(normals(*key).expand(y.shape))
        return honest(self, error, y, key, *rest)

    monkeypatch.setattr(Kernel, "perturb", recording)
    plan = build_plan(model, parse_noise(spec))
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(items, seeds, 0.05):
        model(input_ids=torch.ones(len(items), 12, dtype=torch.long))
    return seen


def repeats(a, b):
    """Share of draws that two sets have in common, element by element (1/380 or so by chance)."""
    return (a == b).double().mean().item()


def key_faults(monkeypatch, toy):
    """Names of the parts of the key that do not matter."""
    model = toy("eager")
    linear = drawn(monkeypatch, model, "relative_gaussian @ op:linear")
    faults = set()
    if repeats(linear[0], linear[3]) > 0.05:  # q_proj and o_proj of layer 0 have the same shape
        faults.add("site")
    if repeats(linear[0], drawn(monkeypatch, model, "relative_gaussian @ op:linear", seeds=(1,))[0]) > 0.05:
        faults.add("seed")
    if repeats(linear[0], drawn(monkeypatch, model, "relative_gaussian @ op:linear", items=("b",))[0]) > 0.05:
        faults.add("item")
    if repeats(linear[0][:-1], linear[0][1:]) > 0.05:
        faults.add("position")
    if repeats(linear[0][:, :-1], linear[0][:, 1:]) > 0.05:
        faults.add("feature")
    scores = drawn(monkeypatch, model, "relative_gaussian @ op:qk")[0]
    if repeats(scores[:, 0], scores[:, 1]) > 0.05:
        faults.add("head")
    if repeats(scores[:, :, :, :-1], scores[:, :, :, 1:]) > 0.05:
        faults.add("key position")
    values = drawn(monkeypatch, model, "relative_gaussian @ op:pv")[0]
    if repeats(values[:, :8], values[:, 8:16]) > 0.05:
        faults.add("head of PV")
    return faults


def test_every_part_of_the_key_matters(monkeypatch, toy):
    assert key_faults(monkeypatch, toy) == set()


def without(position):
    """derive_key that forgets one label."""

    def forgetful(*labels):
        return derive_key(*(label for index, label in enumerate(labels) if index != position))

    return forgetful


@pytest.mark.parametrize(
    ("module", "position", "fault"),
    [(injector, 1, "site"), (injector, 2, "head"), (frames, 1, "seed"), (frames, 2, "item")],
)
def test_mutants_that_forget_a_part_of_the_key_are_caught(monkeypatch, toy, module, position, fault):
    monkeypatch.setattr(module, "derive_key", without(position))
    assert fault in key_faults(monkeypatch, toy)


def test_own_greedy_loop_leaves_the_global_generator_alone(prepared_matmul):
    before = torch.get_rng_state()
    prompts = [prompt_of(prepared_matmul, item.key) for item in prepared_matmul.items[:2]]
    with (
        NoiseSession(prepared_matmul.checkpoint.model, prepared_matmul.plan) as session,
        session.batch([p.item for p in prompts], [0, 0], 0.05),
    ):
        torch.rand(3)
        torch.set_rng_state(before)
        generate(prepared_matmul.checkpoint.model, prompts, prepared_matmul.decoding, session)
    assert torch.equal(torch.get_rng_state(), before)
