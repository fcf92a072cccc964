"""Every way in which noise silently missed vLLM before, planted: each is INVALID, and named."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from harness.engines.vllm.engine import VllmEngine
from harness.evaluate.prepared import prepare
from harness.exceptions import EvidenceError, HarnessError
from harness.record import INVALID_EVIDENCE
from harness.runs.loaded import load_run
from harness.spec import EngineOptions
from suites.slow.conftest import answers, batch_of, running, spec_of
from suites.slow.test_vllm_modes import harness

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_here")]


@pytest.fixture
def sites(vllm_here):
    """The class through which every layer of vLLM registers and perturbs."""
    from harness.integrations.vllm_plugin.quantization import _Sites

    return _Sites


def test_a_worker_without_the_plugin_is_named(shipped, tmp_path):
    arguments = ("eval", shipped, "--items", 4, "--engine", "vllm", "--out", tmp_path / "run")
    done = harness(*arguments, VLLM_PLUGINS="none_of_these")
    assert done.returncode == 4, done.stderr[-2000:]
    assert "vLLM did not load the plugin in this process" in done.stderr


def test_a_swallowed_error_of_the_plugin_is_named(shipped, tmp_path):
    """A part of the plugin cannot be imported in spawned processes only: linears would be perturbed, norms not."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if '--multiprocessing-fork' in sys.orig_argv:\n"
        "    sys.modules['harness.integrations.vllm_plugin.layers'] = None\n"
    )
    arguments = ("eval", shipped, "--items", 4, "--engine", "vllm", "--out", tmp_path / "run")
    done = harness(*arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 4, done.stderr[-2000:]
    assert "vLLM process" in done.stderr and "ModuleNotFoundError" in done.stderr


def test_prefix_cache_hits_are_named(shipped, in_process):
    with running(shipped, spec_of(items=4), overrides={"enable_prefix_caching": True, "block_size": 32}) as given:
        prepared, engine = given
        _, clean, _ = answers(engine, batch_of(prepared, 0.0))
        _, noisy, _ = answers(engine, batch_of(prepared, 0.10))
    assert clean == []
    assert any("the prefix cache answered for" in problem for problem in noisy)
    assert any("wrong injection count" in problem for problem in noisy)


def test_compiled_code_without_the_operator_is_named(shipped, in_process, sites, monkeypatch, tmp_path):
    """What a stale compile cache gives: the sites are registered, and the code that runs was traced without them.

    vLLM found the cache of such code under the same key in another process, and only failed to load it.
    """
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
    honest = sites.build

    def silent(self, *given, **more):
        honest(self, *given, **more)
        self._result = None

    monkeypatch.setattr(sites, "build", silent)
    spec = spec_of("vllm-compiled", items=4, max_new_tokens=8)
    with running(shipped, spec) as (prepared, engine):
        found, problems, _ = answers(engine, batch_of(prepared, 0.10))
    assert found
    assert any("wrong injection count" in problem for problem in problems)
    assert any("stale compile cache" in problem for problem in problems)


def test_weights_quantized_after_packing_are_caught(shipped, in_process, sites, monkeypatch):
    """vLLM packs weights when it loads them; a quantizer that comes later changes nothing and says nothing."""
    monkeypatch.setattr(sites, "quantized", lambda self, weight: None)
    with pytest.raises(EvidenceError, match=r"has no layer for model\.layers\.0"):
        running(shipped, spec_of(items=4, quantize="weights=mxfp4")).__enter__()


def test_layers_in_another_order_are_refused(shipped, in_process, monkeypatch):
    from harness.integrations.vllm_plugin import layers

    honest = layers.Named.__init__

    def swapped(self, op):
        honest(self, op)
        if self.site is not None and self.module.endswith("layers.1.input_layernorm"):
            self.module = "model.layers.0.input_layernorm"

    monkeypatch.setattr(layers.Named, "__init__", swapped)
    with pytest.raises(EvidenceError, match="another order"):
        running(shipped, spec_of(items=4, noise="relative_gaussian @ op:rms_norm")).__enter__()


def test_an_engine_that_dies_is_started_once_more(shipped, monkeypatch, caplog):
    """The first death costs a restart, the second stops the run."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with running(shipped, spec_of(items=8)) as (prepared, engine):
        wanted, _, _ = answers(engine, batch_of(prepared, 0.05))
        pid = int(engine._reports[0]["process"].rpartition(":")[2])
        threading.Thread(target=_kill, args=(pid,)).start()
        found, problems, _ = answers(engine, *(batch_of(prepared, 0.05, seed=seed) for seed in (0, 1, 2)))
        assert int(engine._reports[0]["process"].rpartition(":")[2]) != pid
        assert {key: found[key] for key in wanted} == wanted
        assert problems == []
        assert "it is started once more" in caplog.text
        honest = VllmEngine._start

        def doomed(self):
            honest(self)
            os.kill(int(self._reports[0]["process"].rpartition(":")[2]), signal.SIGKILL)
            time.sleep(1)

        monkeypatch.setattr(VllmEngine, "_start", doomed)
        os.kill(int(engine._reports[0]["process"].rpartition(":")[2]), signal.SIGKILL)
        time.sleep(1)
        with pytest.raises(HarnessError, match=r"died twice .* the same command resumes"):
            answers(engine, batch_of(prepared, 0.05))


def test_an_engine_that_hangs_is_given_up(shipped, monkeypatch):
    """No answer in time: the run stops, resumable, and nobody waits for the engine."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    prepared = prepare(shipped, spec_of(items=2))
    started = []

    def start(self):
        started.append(self)

    monkeypatch.setattr(VllmEngine, "_start", start)
    monkeypatch.setattr(VllmEngine, "_exchange", lambda self, *given: time.sleep(60))
    begun = time.monotonic()
    with (
        VllmEngine(prepared, EngineOptions(2, timeout=0.2)) as engine,
        pytest.raises(HarnessError, match=r"no answer in 0\.2 s.* resumes: give a longer --timeout"),
    ):
        answers(engine, batch_of(prepared, 0.05))
    assert len(started) == 1
    assert time.monotonic() - begun < 50


def test_a_split_model_is_refused(shipped):
    with pytest.raises(EvidenceError, match="split over 2 devices"):
        running(shipped, spec_of(items=2), overrides={"tensor_parallel_size": 2}).__enter__()


def _kill(pid):
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)


def test_an_interrupted_evaluation_resumes(shipped, tmp_path):
    """A run whose last chunk never came back is finished by the same command, with exact counts."""
    out = tmp_path / "run"
    arguments = ("eval", shipped, "--items", 40, "--noise-seeds", 1, "--engine", "vllm", "--out", out)
    arguments = (*arguments, "--batch-size", 2)
    import subprocess
    import sys

    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness.cli.main", *(str(argument) for argument in arguments)]
    running_now = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    database = out / "records.sqlite"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (database.exists() and _records(out)):
        time.sleep(0.1)
    running_now.send_signal(signal.SIGINT)
    running_now.wait(120)
    before = _records(out)
    assert 0 < before < 120
    done = harness(*arguments, multiprocessing="0")
    assert done.returncode == 0, done.stderr[-2000:]
    run = load_run(out)
    assert run.complete and run.arm.certificate.status != INVALID_EVIDENCE
    assert len({(r.item, r.level, r.seed) for r in run.results}) == len(run.results) == 120


def _records(out):
    import sqlite3

    try:
        with sqlite3.connect(f"file:{out / 'records.sqlite'}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM records").fetchone()[0]
    except sqlite3.Error:
        return 0
