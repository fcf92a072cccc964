"""Eager and compiled in processes of their own: certified by the CLI, with the same records.

Within one process vLLM runs in most other slow tests.
"""

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


def harness(*arguments, **environment):
    """The CLI in a process of its own, as a user runs it."""
    given = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-m", "harness.cli.main", *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=given, timeout=900, check=False)


@pytest.fixture(scope="module")
def reference(shipped, tmp_path_factory):
    """The same evaluation on transformers."""
    out = tmp_path_factory.mktemp("reference") / "run"
    evaluate(prepare(shipped, spec_of("transformers", items=ITEMS)), out)
    return load_run(out)


@pytest.mark.parametrize("engine", ["vllm", "vllm-compiled"])
def test_counts_are_exact_and_records_those_of_transformers(shipped, reference, tmp_path, engine):
    out = tmp_path / "run"
    arguments = ("eval", shipped, "--items", ITEMS, "--noise-seeds", 1, "--engine", engine, "--out", out, "--json")
    done = harness(*arguments, VLLM_CACHE_ROOT=str(tmp_path / "cache"))
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
