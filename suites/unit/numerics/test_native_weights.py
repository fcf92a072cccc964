"""The C passes over a weight give the bits of the eager code; the hash of a row tells every change."""

from __future__ import annotations

import pytest
import torch

from harness.aqn.passes import Spare, work_on
from harness.numerics import native_weights
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys

pytestmark = pytest.mark.unit
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def eager(monkeypatch):
    """Switches the kernel off where it is called."""

    def without(call):
        with monkeypatch.context() as patch:
            patch.setattr(native_weights, "_plain", lambda symbol: None)
            patch.setattr(native_weights, "available", lambda weight: False)
            return call()

    return without


def key_of(rows, columns):
    found = [Keys.of(counter_keys(seed, torch.arange(count))) for seed, count in ((5, rows), (6, columns))]
    return DrawKey(found[0].view(-1, 1), found[1].view(1, -1))


def noisy(weight, key):
    clean = weight.clone()
    work = work_on(weight, weight, Spare(torch.empty_like(weight)))
    for first, last in work.pieces():
        work.take(first, last)
        work.noise(first, last, key, 0.01)
        work.measure(first, last)
    found = weight.clone(), work.change(), work.clean_digest(), work.written_digest()
    assert work.restore(weight) == (True, work.clean_digest()) and torch.equal(weight, clean)
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(400, 333), (3, 64), (700,)], ids=str)
def test_both_ways_give_the_same_bits(shape, dtype, eager):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul_(0.02).to(dtype)
    weight.view(-1)[:3] = torch.tensor([0.0, -0.0, 1e-7]).to(dtype)
    key = key_of(shape[0] if len(shape) == 2 else 1, shape[-1])
    assert native_weights.available(weight)
    fast, slow = noisy(weight.clone(), key), eager(lambda: noisy(weight.clone(), key))
    assert torch.equal(fast[0], slow[0]) and fast[2:] == slow[2:]
    assert fast[1] == pytest.approx(slow[1], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_hash_of_a_row_tells_values_and_places(dtype, eager):
    weight = torch.randn(6, 1032, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = native_weights.row_hashes(weight)
    assert torch.equal(before, eager(lambda: native_weights.row_hashes(weight)))
    weight[0, 7] += 0.25
    weight[1, [3, 900]] = weight[1, [900, 3]]
    weight[2, 8:16], weight[2, 16:24] = weight[2, 16:24].clone(), weight[2, 8:16].clone()
    weight[3] = -weight[3]
    assert (native_weights.row_hashes(weight) == before).tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize("key", [0, -1, -(1 << 63), (1 << 63) - 1, 12345])
def test_counters_are_those_of_torch(key):
    wanted = Keys.of(counter_keys(key, torch.arange(3, 20)))
    found = native_weights.counters(key, 3, 17)
    assert found is None or all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


def test_rows_that_somebody_else_wrote_are_left_alone():
    clean = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    weight = clean + 1
    written = native_weights.row_hashes(weight)
    weight[3, 63] = 7.0
    others, hashes = native_weights.restore_rows(clean, weight, written)
    assert others == 1 and torch.equal(hashes, native_weights.row_hashes(weight))
    assert torch.equal(weight[[0, 1, 2, 4]], clean[[0, 1, 2, 4]]) and weight[3, 63] == 7
    assert torch.equal(weight[3, :63], clean[3, :63] + 1)


def test_equal_rows_are_not_copied_again():
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(3))
    clean = torch.zeros_like(weight)
    known = native_weights.row_hashes(weight)
    known[2] += 1
    passes = native_weights.Passes(weight, clean, True, known)
    passes.take(0, 4)
    assert torch.equal(clean[2], weight[2]) and not clean[[0, 1, 3]].any()
    assert torch.equal(known, native_weights.row_hashes(weight))


def test_rows_are_hashed_wherever_they_begin_in_memory(eager):
    flat = torch.randn(4 * 64 + 1, generator=torch.Generator().manual_seed(4)).bfloat16()
    odd = flat[1:].view(4, 64)
    for found in (native_weights.row_hashes(odd), eager(lambda: native_weights.row_hashes(odd))):
        assert torch.equal(found, native_weights.row_hashes(odd.clone()))
