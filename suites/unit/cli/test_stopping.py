"""SIGTERM is as good as Ctrl-C: one line, code 130, everything undone; and it is handled nowhere else."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from harness.cli.exits import INTERRUPTED
from harness.cli.stopping import stopped_by_sigterm

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
