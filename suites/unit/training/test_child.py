"""The watched child: its status, its end with everything it started, also what hides its environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.training import child
from harness.training.child import SHARED, Hung, Watch, end_leftovers, run_child
from harness.training.signs import WAITING, Signs

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


TALKING = """
import sys, time
while True:
    print(sys.argv[1], flush=True)
    time.sleep(0.2)
"""


@pytest.mark.parametrize(
    ("line", "stall", "words"),
    [
        (f"(RobustServer) INFO {WAITING[0]} in 60 seconds.", 60, "nothing was heard of it for 2 s"),
        ("Avg generation throughput: 0.0 tokens/s", 3, "it finished no step and no validation for 3 s"),
    ],
)
def test_a_child_that_only_talks_is_killed(line: str, stall: float, words: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    watch = Watch(lambda: (log,), 2, work=lambda: (tmp_path / "metrics",), stall=stall)
    with pytest.raises(Hung, match=words):
        run_child((sys.executable, "-c", TALKING, line), dict(os.environ), log, watch)


def test_signs_of_life_are_whole_lines_of_anything_but_waiting(tmp_path: Path) -> None:
    log, absent = tmp_path / "log", tmp_path / "absent"
    signs = Signs(WAITING)
    said = [
        ("a line\n", True),
        ("", False),
        (f"{WAITING[0]} in 60", False),
        (" seconds\n\n", False),
        ("step 1", False),
        (" of 9\r", True),
        (f"{WAITING[0]}\nand another\n", True),
    ]
    for text, sign in said:
        with log.open("a") as file:
            file.write(text)
        assert signs.seen((absent, log)) is sign, text


def test_a_silent_child_is_killed_with_children_that_hide_their_mark(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(Hung, match="nothing was heard"):
        run_child((sys.executable, "-c", RENAMED, str(note)), dict(os.environ), tmp_path / "log", Watch(lambda: (), 2))
    for _ in range(50):
        if not psutil.pid_exists(int(note.read_text())):
            return
        time.sleep(0.1)
    raise AssertionError("the child of the child lives on")


PARENT = """
import os, sys
from pathlib import Path
from harness.training.child import Watch, run_child
note, inner, log = map(Path, sys.argv[1:4])
code = (
    "import os, signal, sys, time\\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
    "from multiprocessing import shared_memory, resource_tracker\\n"
    "block = shared_memory.SharedMemory(create=True, size=4096)\\n"
    "resource_tracker.unregister(block._name, 'shared_memory')\\n"
    "open(sys.argv[1], 'w').write(f'{os.getpid()} {block.name}')\\n"
    "time.sleep(60)\\n"
)
run_child((sys.executable, "-c", code, str(inner)), dict(os.environ), log, Watch(lambda: (), 50, note=note))
"""


def test_what_a_killed_run_left_is_ended_by_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE", 0.5)
    note, inner = tmp_path / "family.json", tmp_path / "inner"
    words = (str(note), str(inner), str(tmp_path / "log"))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *words], cwd=Path(__file__).parents[3])
    try:
        for _ in range(300):
            if note.exists() and inner.exists() and inner.read_text().split()[-1] in note.read_text():
                break
            time.sleep(0.1)
        pid, segment = inner.read_text().split()
    finally:
        parent.kill()
        parent.wait()
    assert psutil.pid_exists(int(pid)) and (SHARED / segment).exists(), "the child hears no SIGTERM, so it lives on"
    assert end_leftovers(note)
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    assert not (SHARED / segment).exists() and not note.exists()
    assert not end_leftovers(note)


SEMAPHORE = """
import sys, time
from multiprocessing import get_context, resource_tracker
lock = get_context("spawn").Lock()
resource_tracker.unregister(lock._semlock.name, "semaphore")
open(sys.argv[1], "w").write(lock._semlock.name)
time.sleep(60)
"""


def test_a_semaphore_that_a_killed_child_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE", 0.5)
    note = tmp_path / "name"
    with pytest.raises(Hung):
        run_child(
            (sys.executable, "-c", SEMAPHORE, str(note)), dict(os.environ), tmp_path / "log", Watch(lambda: (), 2)
        )
    name = f"sem.{note.read_text().lstrip('/')}"
    assert name.startswith("sem.mp-") and not (SHARED / name).exists()
