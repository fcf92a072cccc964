"""{this process, processes of their own} x {eager, compiled}: each certified by the CLI, all with the same records."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.record import CERTIFIED
from harness.runs.loaded import load_run
from suites.agreeing import apart
from suites.slow.conftest import spec_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_here")]
ITEMS = 8


def harness(*arguments, multiprocessing="1", **environment):
    """The CLI in a process of its own, as a user runs it."""
    given = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": multiprocessing, "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-m", "harness.cli.main", *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=given, timeout=900, check=False)


@pytest.fixture(scope="module")
def reference(shipped, tmp_path_factory):
    """The same evaluation on transformers."""
    out = tmp_path_factory.mktemp("reference") / "run"
    evaluate(prepare(shipped, spec_of("transformers", items=ITEMS)), out)
    return load_run(out)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """vLLM's folder of compiled code, empty at first: the second process that compiles finds what the first left."""
    return tmp_path_factory.mktemp("compiled")


@pytest.mark.parametrize("engine", ["vllm", "vllm-compiled"])
@pytest.mark.parametrize("multiprocessing", ["0", "1"])
def test_counts_are_exact_and_records_those_of_transformers(
    shipped, reference, compiled, tmp_path, engine, multiprocessing
):
    out = tmp_path / "run"
    arguments = ("eval", shipped, "--items", ITEMS, "--noise-seeds", 1, "--engine", engine, "--out", out, "--json")
    done = harness(*arguments, multiprocessing=multiprocessing, VLLM_CACHE_ROOT=str(compiled))
    assert done.returncode == 0, done.stderr[-2000:]
    run = load_run(out)
    assert run.arm.certificate.status == CERTIFIED
    assert run.arm.key["engine"] == engine
    assert [(r.item, r.level, r.seed, r.tokens, r.score) for r in run.results] == [
        (r.item, r.level, r.seed, r.tokens, r.score) for r in reference.results
    ]
    assert all(level.audited for level in run.arm.certificate.levels)
    assert apart(run.counts, reference.counts) == []
    assert json.loads(done.stdout)["certificate"]["status"] == CERTIFIED
