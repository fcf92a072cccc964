"""Tests of the vLLM engine: skipped, with a reason, where vLLM is not installed."""

from __future__ import annotations

import contextlib
import time

import pytest
from filelock import FileLock

from harness.engines.generation import Prompt
from harness.engines.protocol import Batch
from harness.engines.transformers import TransformersEngine
from harness.evaluate.prepared import prepare
from harness.runs.choice import Choice, Trail
from harness.spec import EngineOptions, EvalSpec, parse_noise, parse_quantization
from harness.training.machine import look_around

RAY_ENDS = 60
"""Seconds that the processes of a Ray may take to end."""


@pytest.fixture(scope="module")
def only_ray(tmp_path_factory):
    """Wait until no other worker of these tests has a Ray: a training refuses to start beside one."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        begun = time.monotonic()
        while look_around().rays and time.monotonic() - begun < RAY_ENDS:
            time.sleep(0.5)
        yield


@pytest.fixture(scope="session")
def vllm_here():
    """Skips without vLLM."""
    return pytest.importorskip("vllm", reason="vLLM is not installed: make setup-full")


@pytest.fixture
def in_process(vllm_here, monkeypatch):
    """Engines in this process: they start in seconds, and their session can be looked into."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def spec_of(engine="vllm", noise=None, quantize=None, items=8, **more):
    """An evaluation of the shipped checkpoint."""
    given = {"noise": parse_noise(noise)} if noise else {}
    if quantize:
        given["quantization"] = parse_quantization(quantize)
    return EvalSpec("arith", items=items, noise_seeds=more.pop("noise_seeds", 1), engine=engine, **given, **more)


@contextlib.contextmanager
def running(path, spec, batch_size=64, overrides=None):
    """(prepared, open engine)."""
    from harness.engines.vllm.engine import VllmEngine

    prepared = prepare(path, spec)
    made = (
        TransformersEngine(prepared)
        if spec.engine == "transformers"
        else VllmEngine(
            prepared, EngineOptions(batch_size, timeout=300), overrides, compiled=spec.engine == "vllm-compiled"
        )
    )
    with made as engine:
        yield prepared, engine


def batch_of(prepared, level, audited=False, items=None, seed=0):
    """All items (or ``items``) at one level."""
    chosen = prepared.items if items is None else items
    choice = Choice(level, 0, 1, Trail(0, "")) if audited else None
    return Batch(level, tuple(Prompt(item.key, seed, prepared.prompts[item.key]) for item in chosen), choice)


def answers(engine, *batches):
    """((item, level, seed) -> tokens, every problem that was found, everything counted)."""
    found, problems, counts = {}, [], []
    for ran in engine.stream(iter(batches)):
        found |= {(result.item, result.level, result.seed): result.tokens for result in ran.results}
        problems += [problem for audit in ran.audits for problem in audit.problems]
        counts += ran.counts
    return found, problems, counts
