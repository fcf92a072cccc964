"""SIGTERM on a process that evaluates the shipped checkpoint: one line, code 130, nothing half-written, resumable."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.runs.folder import DATABASE, LOCK, MANIFEST
from harness.runs.loaded import complete_run

pytestmark = pytest.mark.contract

SHIPPED = Path(__file__).resolve().parents[2] / "fixtures" / "arith-qwen2"
FEW = ("--items", "12", "--noise-levels", "0,0.05", "--noise-seeds", "1", "--max-new-tokens", "6")
SMALL = (*FEW, "--batch-size", "1", "--device", "cpu")
LIMIT = 300


def records(run: Path) -> int:
    """How many are stored; 0 where there is no table yet."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{run / DATABASE}?mode=ro", uri=True)) as stored:
        return int(stored.execute("SELECT count(*) FROM records").fetchone()[0])
    return 0


def test_an_evaluation_that_is_terminated_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    verb = ["eval", str(SHIPPED), "--task", "arith", "--out", str(run), *SMALL, "--no-positive-control"]
    process = subprocess.Popen([sys.executable, "-m", "harness.cli.main", *verb], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + LIMIT
    while not records(run) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "harness: stopped; what was finished is kept, the same command resumes"
    assert "Traceback" not in said
    kept = records(run)
    assert 0 < kept < 24
    assert {file.name for file in run.iterdir()} <= {MANIFEST, DATABASE, LOCK, f"{DATABASE}-wal", f"{DATABASE}-shm"}

    with pytest.raises(SystemExit) as end:
        main(verb)
    assert end.value.code == 0, capsys.readouterr().err
    found = complete_run(run)
    assert len(found.results) == 24 and found.arm.certificate.status == "certified"
