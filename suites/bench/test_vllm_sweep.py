"""Records per second of a whole sweep: vLLM against transformers against the ancestor's way, as ratios in one run.

The engines take turns, best of :data:`ROUNDS`; loading is left out, but for the ancestor's, which loads once per level.
The random model of hidden size 512 rarely stops, so that most of its answers are as long as allowed.
"""

from __future__ import annotations

import shutil
import time

import pytest
import torch

from harness.engines.protocol import Batch
from harness.engines.transformers import TransformersEngine
from harness.evaluate.prepared import prepare
from harness.evaluate.run import batches
from harness.spec import EngineOptions, EvalSpec
from suites.bench.models import FIXTURE, middle_model
from suites.bench.test_sweep import LEVELS, ancestors_way

pytestmark = pytest.mark.bench
TRANSFORMERS, VLLM = "transformers", "vllm"
ROUNDS, ANCESTOR_ITEMS = 2, 2
SIZES = {"fixture": (64, 2, None), "hidden 512 x 10 layers": (32, 1, 48)}
"""Items, noise seeds, longest answer."""

TARGET = 1.25
"""vLLM / transformers on the larger model, with noise on."""


@pytest.fixture(scope="module")
def middle(tmp_path_factory):
    """The random model as a checkpoint with the fixture's tokenizer."""
    folder = tmp_path_factory.mktemp("middle") / "checkpoint"
    shutil.copytree(FIXTURE, folder)
    model = middle_model("sdpa", vocabulary=260)
    model.generation_config.eos_token_id = 258
    model.save_pretrained(folder)
    return folder


def rate(engine, prepared, size):
    """(records per second, those of the noisy levels alone), and the tokens of every record."""
    found, spent = {}, {}
    for noisy in (False, True):
        begun = time.perf_counter()
        wanted = [batch for batch in batches(prepared, set(), size) if bool(batch.level) is noisy]
        plain = [Batch(batch.level, batch.prompts) for batch in wanted]  # audits belong to evidence, not to speed
        for ran in engine.stream(iter(plain)):
            found |= {(r.item, r.level, r.seed): r.tokens for r in ran.results}
        spent[noisy] = time.perf_counter() - begun
    noisy_records = sum(bool(level) for _, level, _ in found)
    return len(found) / sum(spent.values()), noisy_records / spent[True], found


@pytest.mark.parametrize("name", list(SIZES))
def test_sweep_of_vllm_and_transformers(benchmark, monkeypatch, name, request):
    pytest.importorskip("vllm", reason="vLLM is not installed: make setup-full")
    from harness.engines.vllm.engine import VllmEngine

    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    torch.set_num_threads(1)
    items, seeds, longest = SIZES[name]
    path = FIXTURE if name == "fixture" else request.getfixturevalue("middle")

    def asked(engine, count):
        spec = EvalSpec("arith", items=count, levels=LEVELS, noise_seeds=seeds, engine=engine, max_new_tokens=longest)
        return prepare(path, spec)

    prepared = {engine: asked(engine, items) for engine in (TRANSFORMERS, VLLM)}
    best: dict[str, tuple[float, float]] = {}

    def compare():
        with (
            TransformersEngine(prepared[TRANSFORMERS]) as plain,
            VllmEngine(prepared[VLLM], EngineOptions(64)) as fast,
        ):
            tokens = {}
            for _ in range(ROUNDS):
                for engine, opened in ((TRANSFORMERS, plain), (VLLM, fast)):
                    whole, noisy, tokens[engine] = rate(opened, prepared[engine], 64)
                    before = best.get(engine, (0.0, 0.0))
                    best[engine] = max(before[0], whole), max(before[1], noisy)
        assert tokens[VLLM] == tokens[TRANSFORMERS]
        small = asked(TRANSFORMERS, ANCESTOR_ITEMS)
        begun = time.perf_counter()
        ancestors_way(small, path)
        best["ancestor"] = (ANCESTOR_ITEMS * len(LEVELS) / (time.perf_counter() - begun), 0.0)

    benchmark.pedantic(compare, rounds=1)
    whole, noisy = (best[VLLM][part] / best[TRANSFORMERS][part] for part in (0, 1))
    ancestor = best[VLLM][0] / best["ancestor"][0]
    benchmark.extra_info |= {"records per second": best, "vllm / transformers": whole, "with noise": noisy}
    rates = ", ".join(f"{engine} {found[0]:.2f}" for engine, found in best.items())
    print(
        f"\n{name}: records per second {rates}; vLLM / transformers {whole:.2f}, noisy levels {noisy:.2f} "
        f"(target {TARGET} on the larger model), vLLM / ancestor {ancestor:.1f}"
    )
