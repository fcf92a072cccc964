"""A process that is killed while it accepts a run leaves the old baseline, or none, and never half of one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import accept_baseline
from harness.baselines.book import listed, load_named
from harness.testing import write_run

pytestmark = pytest.mark.long

WAITING = """
import os, sys, time
from harness.cli.main import main
place = sys.argv.pop(1)
real = getattr(os, place)
def waits(*given):
    done = real(*given) if place == "fsync" else None
    print("here", flush=True)
    time.sleep(60)
    return done
setattr(os, place, waits)
main(sys.argv[1:])
"""
"""``harness``, which stops for good where the file is written (fsync) or about to take its name (replace)."""


@pytest.mark.parametrize(
    ("kill", "place", "there"),
    [
        (signal.SIGKILL, "fsync", True),
        (signal.SIGKILL, "replace", False),
        (signal.SIGTERM, "fsync", False),
        (signal.SIGTERM, "replace", True),
    ],
)
def test_a_killed_accept_leaves_nothing_half_written(
    tmp_path: Path, kill: signal.Signals, place: str, there: bool
) -> None:
    books = tmp_path / "books"
    first, second = (write_run(tmp_path / name, {0.0: [[1]] * n}) for name, n in (("first", 30), ("second", 40)))
    if there:
        accept_baseline(first, books, "mine", "the first")
    before = {file: file.read_bytes() for file in books.rglob("*.json")}
    verb = ["baseline", "accept", str(second), "--name", "mine", "--reason", "again", "--replace"]
    command = [sys.executable, "-c", WAITING, place, *verb, "--baselines-dir", str(books)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    process.send_signal(kill)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if kill == signal.SIGTERM else -kill), said
    assert {file: file.read_bytes() for file in books.rglob("*.json")} == before
    assert [name for name, _ in listed(books)] == ["mine"] * there
    if kill == signal.SIGTERM:
        assert not list(books.rglob(".*")), "nothing is left behind"
    accept_baseline(second, books, "mine", "again", there)
    assert len(load_named(books, "mine").arm.outcomes[0.0]) == 40
