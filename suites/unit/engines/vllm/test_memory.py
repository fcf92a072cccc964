"""The memory that vLLM's engines will need is estimated before one is started."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import psutil
import pytest

from harness.engines.vllm import memory
from harness.engines.vllm.memory import GIB, OVERHEAD, cache_bytes, cache_of, check_memory
from harness.evaluate.prepared import prepare
from harness.spec import EngineOptions, EvalSpec

pytestmark = pytest.mark.unit


@pytest.fixture
def machine(monkeypatch):
    """``machine(gib, cpu)``: a machine with so much free memory, with or without an accelerator."""

    def build(gib, cpu=True):
        platform = SimpleNamespace(is_cpu=lambda: cpu)
        monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "vllm.platforms", SimpleNamespace(current_platform=platform))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(gib * GIB)))

    return build


def test_what_does_not_fit_is_refused_with_its_parts(machine, tmp_path, refusal):
    machine(20)
    line = refusal(check_memory, tmp_path, 7 * GIB, 2 * GIB, 2)
    assert line == (
        f"checkpoint {tmp_path} on 2 vLLM engines needs about 22.0 GiB of memory; 20.0 GiB are free (weights 7.0, "
        "cache 2.0, overhead 2 GiB each); give fewer --workers, a smaller --batch-size, or a machine with more"
    )
    check_memory(tmp_path, 7 * GIB, 2 * GIB, 1)


def test_the_last_byte_counts_and_accelerators_are_left_to_vllm(machine, tmp_path, refusal):
    machine(2 * 3 + 2 * OVERHEAD / GIB)
    check_memory(tmp_path, 2 * GIB, GIB, 2)
    assert "needs about 10.0 GiB of memory; 10.0 GiB are free" in refusal(check_memory, tmp_path, 2 * GIB + 1, GIB, 2)
    machine(0, cpu=False)
    check_memory(tmp_path, 2 * GIB, GIB, 2)


def test_bytes_of_the_cache():
    given = {"num_hidden_layers": 10, "num_attention_heads": 8, "hidden_size": 512}
    plain = SimpleNamespace(**given)
    plain.get_text_config = lambda: plain
    assert cache_bytes(plain, 4, 3, 100) == 2 * 10 * 8 * 64 * 4 * 3 * 100
    grouped = SimpleNamespace(**given, num_key_value_heads=2, head_dim=128)
    grouped.get_text_config = lambda: grouped
    assert cache_bytes(grouped, 2, 1, 1) == 2 * 10 * 2 * 128 * 2


def test_cache_and_weights_come_from_the_outline_in_the_dtype_of_the_run(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "check_memory", lambda *given: asked.append(given))
    for dtype in ("float32", "bfloat16"):
        prepared = prepare(tiny, EvalSpec("arith", items=4, dtype=dtype), outline=True)
        assert not prepared.loaded
        options = EngineOptions(batch_size=64, workers=3)
        assert cache_of(prepared, options) == GIB, "vLLM gets no less"
        huge = EngineOptions(batch_size=2**20)
        longest = max(map(len, prepared.prompts.values())) + prepared.decoding.max_new_tokens
        size = {"float32": 4, "bfloat16": 2}[dtype]
        exact = cache_bytes(prepared.checkpoint.model.config, size, 2**20, longest)
        assert exact <= cache_of(prepared, huge) <= exact * (1 + 128 / longest)
        memory.check_room(prepared, options)
    (path, full, cache, workers), (_, half, _, _) = asked
    assert (path, cache, workers) == (tiny, GIB, 3)
    assert full == 2 * half == 4 * sum(weight.numel() for weight in prepared.checkpoint.model.parameters())
