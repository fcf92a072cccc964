"""What a reference of distributions may be made of, and held against; the runs themselves: ``suites/sabotage``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.exceptions import HarnessError, NotComparableError, StoreError
from harness.gates.divergence import DivergencePolicy
from harness.library import divergence
from harness.library.divergence import Size, diverge, measured, record
from harness.runs.loaded import load_run
from harness.testing import write_run

pytestmark = pytest.mark.unit
ROWS = {0.0: [[1], [0], [1]], 0.05: [[1], [0], [0]]}


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", ROWS)


@pytest.mark.parametrize("name", ["items", "tokens", "noise_seeds", "top"])
def test_a_size_below_one_is_refused(name):
    option = f"--{name.replace('_', '-')}"
    with pytest.raises(HarnessError, match=f"{option} 0; at least one is needed"):
        Size(**{name: 0})


def test_more_items_than_the_run_has_are_refused_before_anything_is_loaded(run, tmp_path):
    with pytest.raises(HarnessError, match="--items 4; the run has 3 items"):
        record(run, tmp_path / "reference", Size(items=4))
    assert not (tmp_path / "reference").exists()


def test_a_run_without_clean_evidence_is_no_source(run, tmp_path, monkeypatch):
    found = load_run(run)
    broken = replace(found.arm.certificate, problems=("noise in the clean arm",))
    bad = replace(found, arm=replace(found.arm, certificate=broken))
    monkeypatch.setattr(divergence, "complete_run", lambda path: bad)
    with pytest.raises(StoreError, match="it is no evidence: noise in the clean arm"):
        record(run, tmp_path / "reference", Size(items=1))


def test_a_run_of_another_task_is_neither_reference_nor_candidate(run):
    with pytest.raises(HarnessError, match=r"--reference .*a run of the task arith keeps no distributions"):
        diverge(run, run, DivergencePolicy(0.1))
    with pytest.raises(NotComparableError, match="a run of the task arith keeps no distributions"):
        measured(load_run(run))
