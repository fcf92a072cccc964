"""SIGKILL and SIGTERM at random points lose at most the running batch: the final records equal an uninterrupted
run's."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from harness.cli.main import main
from harness.exceptions import StoreError
from harness.runs.loaded import load_run
from harness.runs.store import DATABASE, Store
from suites.agreeing import apart

pytestmark = pytest.mark.contract
KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)


def arguments(checkpoint, out):
    options = "--items 24 --noise-levels 0,0.1 --noise-seeds 2 --batch-size 4 --max-new-tokens 8 --device cpu"
    return ["eval", str(checkpoint), "--out", str(out), *options.split()]


def command(checkpoint, out):
    return [sys.executable, "-m", "harness.cli.main", *arguments(checkpoint, out)]


def here(checkpoint, out):
    """The same in this process, which has imported everything."""
    with pytest.raises(SystemExit) as ended:
        main(arguments(checkpoint, out))
    assert ended.value.code in (0, None)


def recorded(out):
    if not (out / DATABASE).is_file():
        return 0
    try:
        with Store.read(out) as store:
            return len(store.done())
    except StoreError:  # it is just being made
        return 0


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def test_records_survive_sigkill_and_sigterm(two_layers, tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    here(two_layers, whole)
    chance = random.Random(20261121)
    for kill in KILLS:
        before = recorded(killed)
        process = subprocess.Popen(command(two_layers, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wanted = before + chance.randrange(1, 16)
        wait_for(lambda wanted=wanted: recorded(killed) >= wanted, process)
        time.sleep(chance.random() * 0.1)
        process.send_signal(kill)
        assert process.wait() == (130 if kill == signal.SIGTERM else -kill), (
            "the run ended before it was killed: choose more items"
        )
        assert recorded(killed) >= before
    subprocess.run(command(two_layers, killed), check=True, capture_output=True)
    expected, found = load_run(whole), load_run(killed)
    assert found.results == expected.results
    assert found.arm.certificate.status == "certified"
    assert len({count.process for count in found.counts}) > 1, "each process has its own entries"
    assert apart(found.counts, expected.counts) == []
    capsys.readouterr()
    here(two_layers, killed)
    assert "generations to do" not in capsys.readouterr().err
