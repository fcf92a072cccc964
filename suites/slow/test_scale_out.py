"""Several workers over Ray: the records and counts of one, whatever dies on the way. Skipped where Ray is missing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from harness.engines.workers import pool
from harness.evaluate.opening import engine_of
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import CheckpointError, HarnessError
from harness.ledger import merge
from harness.runs.loaded import load_run
from harness.runs.store import DATABASE, Store
from harness.spec import EngineOptions
from harness.thresholds import CONTROL_ITEMS
from suites.agreeing import apart
from suites.slow.conftest import spec_of

ray = pytest.importorskip("ray", reason="Ray is not installed: make setup-full")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("only_ray")]

SPEC = spec_of("transformers", items=20, levels=(0.0, 0.1), noise_seeds=1)
BATCH = 4
TWO = EngineOptions(BATCH, workers=2, timeout=300)


@pytest.fixture(scope="module")
def users_ray(only_ray):
    """A Ray that somebody else started in this process."""
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=150 * 2**20,
        logging_level="CRITICAL",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def alone(shipped, tmp_path_factory):
    """The run of one engine in this process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    evaluate(prepare(shipped, SPEC, "cpu"), out, BATCH)
    return load_run(out)


def calls(run):
    """(site, level) -> calls over all processes, which depend on how batches are cut."""
    return {(each.site, each.level): each.calls for each in merge(run.counts, across_processes=True)}


def processes(counts):
    return {count.process for count in counts}


def parts(prepared, store):
    """Some items after the others, as early stopping does."""
    first, rest = prepared.items[:CONTROL_ITEMS], prepared.items[CONTROL_ITEMS:]
    yield replace(prepared, items=first)
    assert {item for item, _, _ in store.done()} == {item.key for item in first}
    yield replace(prepared, items=rest)


@pytest.mark.usefixtures("users_ray")
def test_two_workers_store_what_one_stores(shipped, alone, tmp_path):
    prepared = prepare(shipped, SPEC, outline=True)
    evaluate(prepared, tmp_path / "run", BATCH, engine=engine_of(prepared, TWO, "cpu"), parts=parts)
    run = load_run(tmp_path / "run")
    assert run.results == alone.results
    assert apart(run.counts, alone.counts) == []
    assert run.arm.certificate.status == "certified"
    assert run.arm.certificate.control == alone.arm.certificate.control
    found = processes(run.counts)
    assert len(found) == 2 and not found & processes(alone.counts), "both workers took part, and nobody else"
    assert ray.is_initialized(), "the user's own Ray goes on"


@pytest.mark.usefixtures("users_ray")
def test_the_batch_of_a_killed_worker_is_done_again(shipped, alone, tmp_path, caplog):
    out, killed = tmp_path / "run", []

    def kill_once(count):
        if count and not killed:
            with Store.read(out) as store:
                (process,) = processes(store.counts())
            killed.append(process)
            os.kill(int(process.rpartition(":")[2]), signal.SIGKILL)

    prepared = prepare(shipped, SPEC, outline=True)
    evaluate(prepared, out, BATCH, kill_once, engine=engine_of(prepared, TWO, "cpu"))
    run = load_run(out)
    assert run.results == alone.results
    assert apart(run.counts, alone.counts) == []
    assert calls(run) == calls(alone)
    assert run.arm.certificate.status == "certified"
    assert len(killed) == 1 and len(processes(run.counts)) == 3, "the worker that was killed, the other, the new one"
    assert [record.message for record in caplog.records if "started again" in record.message]


@pytest.mark.usefixtures("users_ray")
def test_workers_that_cannot_go_on_give_one_line_and_store_nothing(shipped, tmp_path, monkeypatch):
    out = tmp_path / "run"
    prepared = prepare(shipped, SPEC, outline=True)

    def refused(worker, kind=HarnessError, timeout=300.0):
        with monkeypatch.context() as patched:
            patched.setattr(pool, "Worker", worker)
            patched.setattr(pool, "job_of", lambda *_: None)
            with pytest.raises(kind) as caught:
                evaluate(prepared, out, BATCH, engine=engine_of(prepared, replace(TWO, timeout=timeout), "cpu"))
        assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
        return caught.value

    class Dying:
        def __init__(self, number, job, opener):
            pass

        def run(self, batches):
            os.kill(os.getpid(), signal.SIGKILL)

    class Refusing(Dying):
        def run(self, batches):
            raise CheckpointError("checkpoint x", "it is damaged", "copy it again")

    class Hanging(Dying):
        def run(self, batches):
            time.sleep(600)

    died = str(refused(Dying))
    assert died.startswith("a worker died 2 times (") and died.endswith("the same command resumes")
    assert str(refused(Refusing, CheckpointError)) == "checkpoint x; it is damaged; copy it again"
    assert str(refused(Hanging, timeout=3.0)).startswith("--timeout 3; no worker answered")
    with Store.read(out) as store:
        assert not store.done() and not store.counts()


@pytest.mark.usefixtures("users_ray")
def test_more_workers_than_places_are_refused(shipped, tmp_path):
    prepared = prepare(shipped, SPEC, outline=True)
    with pytest.raises(HarnessError, match=r"--workers 3; Ray has 2 CPU here .*give at most --workers 2"):
        evaluate(prepared, tmp_path / "run", BATCH, engine=engine_of(prepared, replace(TWO, workers=3), "cpu"))


def test_ctrl_c_stops_every_process_and_the_run_resumes_with_one(shipped, alone, tmp_path):
    out = tmp_path / "run"
    options = f"--items 20 --noise-levels 0,0.1 --noise-seeds 1 --batch-size {BATCH} --device cpu --workers 2"
    command = [sys.executable, "-m", "harness.cli.main", "eval", str(shipped), "--out", str(out), *options.split()]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    end = time.monotonic() + 240
    while not recorded(out) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in child.name() for child in family)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: the whole group gets it
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "harness: stopped; what was finished is kept, the same command resumes"
    assert "Traceback" not in said and "ray" not in said.lower()
    assert not psutil.wait_procs(family, timeout=15)[1], "Ray and its workers end with the command"
    kept = recorded(out)
    assert 0 < kept < len(alone.results)
    evaluate(prepare(shipped, SPEC, "cpu"), out, BATCH)
    run = load_run(out)
    assert run.results == alone.results
    assert apart(run.counts, alone.counts) == []
    assert calls(run) == calls(alone)
    assert run.arm.certificate.status == "certified"


def recorded(out):
    """Records so far; a whole reading would take longer than the rest of the run."""
    try:
        with sqlite3.connect(f"file:{out / DATABASE}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.Error:  # it is being made
        return 0


@pytest.mark.usefixtures("users_ray")
def test_two_vllm_workers_store_what_one_stores(shipped, tmp_path, monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is not installed: make setup-full")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    spec = spec_of("vllm", items=8, levels=(0.0, 0.1), max_new_tokens=32, positive_control=False)
    runs = []
    for workers in (2, 1):
        prepared, out = prepare(shipped, spec, outline=workers > 1), tmp_path / f"{workers}"
        evaluate(prepared, out, BATCH, engine=engine_of(prepared, replace(TWO, workers=workers, timeout=1200.0)))
        runs.append(load_run(out))
    two, one = runs
    assert two.results == one.results
    assert apart(two.counts, one.counts) == []
    assert [run.arm.certificate.status for run in runs] == ["certified", "certified"]
    assert len(processes(two.counts)) == 2
