"""The watched child: its status, its end with everything it started, also what hides its environment."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.training.child import Hung, Watch, run_child

pytestmark = pytest.mark.unit
RENAMED = """
import os, subprocess, sys, time
inner = "import os, time; open(os.environ['NOTE'], 'w').write(str(os.getpid())); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", inner], env={"NOTE": sys.argv[1]}, start_new_session=True)
time.sleep(60)
"""


def test_the_status_of_the_child_is_returned(tmp_path: Path) -> None:
    watch = Watch(lambda: (), 30)
    assert run_child((sys.executable, "-c", "raise SystemExit(3)"), dict(os.environ), tmp_path / "log", watch) == 3


def test_a_silent_child_is_killed_with_children_that_hide_their_mark(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(Hung, match="nothing was heard"):
        run_child((sys.executable, "-c", RENAMED, str(note)), dict(os.environ), tmp_path / "log", Watch(lambda: (), 2))
    for _ in range(50):
        if not psutil.pid_exists(int(note.read_text())):
            return
        time.sleep(0.1)
    raise AssertionError("the child of the child lives on")
