"""SIGTERM is as good as Ctrl-C: one line, code 130, everything undone; and it is handled nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.cli.exits import INTERRUPTED
from harness.cli.stopping import stopped_by_sigterm
from harness.cli.train_matrix import Steps
from harness.engines.workers.ray_session import kept_sigterm

pytestmark = pytest.mark.unit


def test_sigterm_in_a_verb_ends_it_as_ctrl_c_does(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.baseline_verb.list_baselines", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    said = cli("baseline", "list")
    assert said.code == INTERRUPTED and "stopped; what was finished is kept" in said.err and "Traceback" not in said.err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_whoever_handles_it_already_goes_on_doing_so() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with stopped_by_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_a_forked_process_dies_of_it() -> None:
    with stopped_by_sigterm():
        child = os.fork()
        if child == 0:  # pragma: no cover
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM


def test_ray_does_not_take_sigterm_over() -> None:
    """Its start installs a handler that ends the program with code 15, or 1, a FAIL."""
    with stopped_by_sigterm():
        ours = signal.getsignal(signal.SIGTERM)
        with kept_sigterm():
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        assert signal.getsignal(signal.SIGTERM) is ours
    with kept_sigterm():  # a program without a handler of its own keeps Ray's
        signal.signal(signal.SIGTERM, rays := lambda number, _: sys.exit(number))
    assert signal.getsignal(signal.SIGTERM) is rays
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_steps_of_a_matrix_are_told_to_stop_and_waited_for(tmp_path: Path) -> None:
    """Also those in other threads, which no exception reaches; and none begins afterwards."""
    code = "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(60)"
    begun = [tmp_path / name for name in ("one", "two")]
    steps = Steps()
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(steps.run, (sys.executable, "-c", code, str(file))) for file in begun]
        while not all(file.exists() for file in begun):
            time.sleep(0.02)
        steps.stop()
        assert [end.result() for end in ends] == [-signal.SIGTERM] * 2
    assert steps.run((sys.executable, "-c", code, str(tmp_path / "three"))) == INTERRUPTED
    assert not (tmp_path / "three").exists()


def test_an_interrupt_in_executed_text_ends_with_the_same_code(tmp_path: Path) -> None:
    """As in the middle of an import that makes dataclasses: ``python -m`` would end by SIGINT, whoever caught it."""
    script = (
        "from harness.cli import main as cli\n"
        "cli.command.main = lambda **_: exec('raise KeyboardInterrupt')\n"
        "cli.main([])\n"
    )
    (tmp_path / "interrupted.py").write_text(script)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == INTERRUPTED


def test_a_sigterm_while_the_interpreter_ends_leaves_the_code_of_the_verb() -> None:
    """What is printed then stands: the code must be that of the verdict, not that of a killed process."""
    script = (
        "import atexit, os, signal, sys\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
        "from harness.cli import main as cli\n"
        "cli._run = lambda given, begun: 3\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 3
