"""``harness gate RUN --baseline NAME --json`` from end to end on large stored runs: seconds, memory, and a ratio.

The ratio is to what no reader can do without: every row of the records read from SQLite and hashed once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.baselines.book import accept
from harness.runs.store import DATABASE
from harness.testing import RunMaker

pytestmark = pytest.mark.bench
LEVELS, SEEDS = (0.0, 0.05, 0.10), 5
GATE = """
import resource, sys, time
from harness.cli.main import main
begun = time.perf_counter()
try:
    main(["gate", *sys.argv[1:], "--json"])
except SystemExit as end:
    code = end.code
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(code, time.perf_counter() - begun, peak / 1024, file=sys.stderr)
"""


def scores(items: int, drop: float, seed: int) -> dict[float, list[list[float]]]:
    """Right and wrong answers of a model that loses ``drop`` more."""
    rng = np.random.default_rng(seed)
    return {
        level: (rng.random((items, SEEDS if level else 1)) < 0.75 - drop - level / 10).astype(float).tolist()
        for level in LEVELS
    }


def read(path: Path) -> float:
    """Seconds that reading and hashing the records takes."""
    begun = time.perf_counter()
    with sqlite3.connect(path / DATABASE) as connection:
        for row in connection.execute("SELECT * FROM records"):
            hashlib.sha256(repr(row).encode()).digest()
    return time.perf_counter() - begun


@pytest.mark.parametrize("items", [10_000, 100_000])
def test_a_gate_over_a_large_run(
    items: int, make_run: RunMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "accepted", scores(items, 0.0, 0))
    make_run(tmp_path / "run", scores(items, 0.001, 1))
    accept(tmp_path / "accepted", tmp_path / "baselines", "large", "a benchmark")
    command = [sys.executable, "-c", GATE, tmp_path / "run", "--baseline", "large"]
    command += ["--baselines-dir", tmp_path / "baselines"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, seconds, peak = done.stderr.splitlines()[-1].split()
    bare = read(tmp_path / "run")
    found = json.loads(done.stdout)
    assert [level["n"] for level in found["levels"]] == [items] * len(LEVELS)
    with capsys.disabled():
        records = items * (1 + SEEDS * (len(LEVELS) - 1))
        print(
            f"\nstored gate, {items} items, {records} records: {float(seconds):.1f} s ({float(seconds) / bare:.1f} x"
            f" reading and hashing the rows once), peak {float(peak):.0f} MiB, exit {code}"
        )
