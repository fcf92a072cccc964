"""What workers are given, what a worker does, and what is refused before Ray is started; none of it needs Ray."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from harness.engines.generation import Prompt
from harness.engines.protocol import Batch
from harness.engines.transformers import KIND, TransformersEngine
from harness.engines.vllm.kind import EAGER as VLLM
from harness.engines.workers.pool import portions
from harness.engines.workers.ray_session import check_ray, check_room
from harness.engines.workers.worker import Worker, job_of
from harness.evaluate.opening import engine_of
from harness.evaluate.prepared import prepare
from harness.exceptions import EvidenceError
from harness.runs.choice import Choice, Trail
from harness.spec import EngineOptions, EvalSpec

pytestmark = pytest.mark.unit
SPEC = EvalSpec("arith", items=4, levels=(0.0, 0.1), noise_seeds=1, max_new_tokens=4)
TWO = EngineOptions(batch_size=2, workers=2)


@pytest.fixture
def outline(tiny):
    return prepare(tiny, SPEC, outline=True)


@pytest.fixture
def job(outline, monkeypatch, tmp_path):
    """A job in another folder; a worker changes its process, which is undone here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    made = job_of(outline, TWO, "cpu")
    monkeypatch.chdir(tmp_path)
    return made


CHOICE = Choice(0.1, 0, 1, Trail(0, ""))


def batch(prepared, level, audited=None):
    return Batch(level, tuple(Prompt(item.key, 0, prepared.prompts[item.key]) for item in prepared.items), audited)


@pytest.mark.parametrize(
    ("together", "workers", "sizes"),
    [(1, 2, [1] * 8), (4, 2, [1, 4, 1, 2]), (3, 3, [1, 3, 3, 1]), (4, 9, [1] * 8)],
)
def test_every_batch_is_given_once_and_audited_ones_alone(together, workers, sizes):
    chosen = [CHOICE if number in (0, 7) else None for number in range(8)]
    batches = [Batch(0.1, (Prompt(f"i{number}", 0, (1,)),), choice) for number, choice in enumerate(chosen)]
    given = list(portions(batches, together, workers))
    assert [len(work) for work in given] == sizes
    assert sorted(one.prompts[0].item for work in given for one in work) == [f"i{number}" for number in range(8)]
    assert all(len(work) == 1 for work in given if work[0].audited)
    assert list(portions([], together, workers)) == []


def test_a_worker_gives_what_the_engine_gives(tiny, outline, job):
    work = (batch(outline, 0.1, audited=CHOICE),)
    worker = Worker(1, job, prepare)
    first, second = worker.run(work), worker.run((batch(outline, 0.0),))
    with TransformersEngine(prepare(tiny, SPEC, "cpu")) as engine:
        (expected,) = engine.stream(iter(work))
    (ran,) = first.ran
    assert ran == expected
    assert ran.audits and all(count.level == 0.1 for count in ran.counts)
    assert all(count.level == 0.0 for count in second.ran[0].counts), "the counts of a batch leave with it"
    assert (first.worker, first.process) == (1, os.getpid())
    assert os.getcwd() == str(job.folder)


def test_a_worker_sets_what_its_engine_wants_in_the_environment(tiny, outline, job, monkeypatch):
    monkeypatch.setattr("harness.engines.workers.worker.engine_kind", lambda name: replace(VLLM, open=KIND.open))
    Worker(1, job, prepare).run((batch(outline, 0.0),))
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0", "a killed worker would leave vLLM's processes behind"


def test_a_worker_that_measures_something_else_is_refused(outline, job, refusal):
    other = replace(job, shared={**job.shared, "revision": "another", "dtype": "bfloat16"})
    line = refusal(Worker(2, other, prepare).run, (batch(outline, 0.0),), kind=EvidenceError, code=4)
    assert line.startswith("worker 2 of 2 has another dtype, revision;")


def test_a_worker_without_memory_gives_one_line(outline, job, refusal, monkeypatch):
    def generate(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore")

    monkeypatch.setattr("harness.engines.transformers.generate", generate)
    line = refusal(Worker(1, job, prepare).run, (batch(outline, 0.0),))
    assert line.startswith("worker 1 of 2 with --batch-size 2; out of memory (CUDA out of memory.")
    assert line.endswith("fewer --workers or a smaller --batch-size: the same command resumes")


def test_threads_are_shared_out_unless_the_user_says_how_many(outline, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert job_of(outline, TWO, None).threads == 4
    assert job_of(outline, replace(TWO, workers=32), None).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert job_of(outline, TWO, None).threads == 3


def test_without_ray_workers_are_refused_and_one_is_not(tiny, outline, monkeypatch, refusal):
    monkeypatch.setitem(sys.modules, "ray", None)
    line = refusal(engine_of, outline, TWO)
    assert line.startswith("--workers 2; several engines run over Ray, which cannot be imported here")
    assert line.endswith("make setup-full, or use --workers 1")
    with engine_of(prepare(tiny, SPEC, "cpu"), replace(TWO, workers=1)) as engine:
        assert isinstance(engine, TransformersEngine)


def test_without_ray_the_command_says_so_and_writes_nothing(tiny, cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    said = cli("eval", tiny, "--items", 4, "--workers", 2, "--out", tmp_path / "run")
    assert said.code == 2
    assert said.line.startswith("harness: --workers 2; several engines run over Ray")
    assert not (tmp_path / "run").exists()


def test_ray_without_enough_places_is_refused(refusal):
    check_room(2, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 2.0})
    line = refusal(check_room, 4, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 2.0})
    assert line == "--workers 4; Ray has 2 GPU here and each worker takes 1; give at most --workers 2"
    assert "--device cpu" in refusal(check_room, 2, {"GPU": 1.0}, {"CPU": 8.0})


def test_a_broken_ray_is_named(monkeypatch, refusal):
    def broken(name):
        raise OSError("libray.so is not there")

    monkeypatch.setattr("harness.engines.workers.ray_session.importlib", SimpleNamespace(import_module=broken))
    assert "OSError: libray.so is not there" in refusal(check_ray, 3)
