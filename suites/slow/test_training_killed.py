"""A training run that is killed with -9 and resumed, or stopped: nothing of it is left, and the resumed one ends as an
uninterrupted one does.

Sampled answers differ from run to run in verl (greedy ones do not), so the weights of the two differ; what must agree
is the data of every step, the steps and the verdict, and the validation within four standard errors.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.strict import read_object
from harness.training.child import MARK, SHARED
from harness.training.evidence import HUNG
from harness.training.signs import WAITING

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("only_ray")]
ROOT = Path(__file__).resolve().parents[2]
STEPS, ITEMS, LIMIT = 2, 16, 900
RECIPE = f"""
base = "E5b"
title = "5 % on both sides and AQN, two steps"
[noise]
draws = "same"
[aqn]
sigma_start = 0.05
sigma_end = 0.05
stages_per_epoch = {STEPS}
[tiny.run]
epochs = 1
steps = {STEPS}
validate_every = {STEPS}
save_every = 1
validate_first = false
[tiny.data]
validation_items = {ITEMS}
"""


def harness(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "harness.cli.main", "train", *words], cwd=ROOT)


def marked(mark: str) -> list[psutil.Process]:
    """The living processes of a run."""
    found = []
    for process in psutil.process_iter(["environ", "status"]):
        environ = process.info["environ"] or {}
        if environ.get(MARK) == mark and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(LIMIT)
    finally:
        process.terminate()


def killed_after_the_first_checkpoint(recipe: Path, folder: Path) -> dict[str, Any]:
    """Start a run, kill the harness with -9 once a checkpoint is whole, and return the note that it left."""
    process = harness("run", str(recipe), "--out", str(folder))
    latest = folder / "checkpoints" / "latest_checkpointed_iteration.txt"
    begun = time.monotonic()
    try:
        while not latest.is_file() and process.poll() is None and time.monotonic() - begun < LIMIT:
            time.sleep(0.2)
        assert latest.is_file(), "the run ended before its first checkpoint"
        return read_object(folder / "family.json")
    finally:
        process.kill()
        process.wait()


def begun(folder: Path) -> bool:
    """Whether the run's actor and rollout have told how they begin: all its processes are there."""
    ledger = folder / "ledger.jsonl"
    return ledger.is_file() and '"kind": "begun"' in ledger.read_text()


def left_since(there: set[str]) -> set[str]:
    """What lies in shared memory of verl's and Python's that was not ``there``."""
    return {each.name for each in SHARED.iterdir() if each.name.startswith(("psm_", "sem.mp-"))} - there


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM], ids=lambda told: str(told.name))
def test_a_stopped_run_leaves_nothing(told: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("verl", reason="verl is not installed: make setup-full")
    recipe, folder = tmp_path / "short.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    there = {each.name for each in SHARED.iterdir()}
    process, start = harness("run", str(recipe), "--out", str(folder)), time.monotonic()
    try:
        while not begun(folder) and process.poll() is None and time.monotonic() - start < LIMIT:
            time.sleep(0.2)
        assert begun(folder), "the run ended before it began"
        mark = read_object(folder / "family.json")["mark"]
        assert len(marked(mark)) > 3
        process.send_signal(told)
        assert process.wait(LIMIT) == 130
    finally:
        process.kill()
        process.wait()
    assert not marked(mark) and not (folder / "family.json").exists() and not (folder / "status.json").exists()
    assert not left_since(there)


def test_a_run_whose_rollout_hangs_is_killed_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM's worker answers no more, and its engine says so again and again, which is no sign of life."""
    pytest.importorskip("verl", reason="verl is not installed: make setup-full")
    monkeypatch.setenv("VLLM_RINGBUFFER_WARNING_INTERVAL", "20")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "INFO")  # verl's own is WARN, under which it says nothing
    recipe, folder = tmp_path / "short.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    there = {each.name for each in SHARED.iterdir()}
    process, start = harness("run", str(recipe), "--out", str(folder), "--silence", "90"), time.monotonic()
    try:
        while not begun(folder) and process.poll() is None and time.monotonic() - start < LIMIT:
            time.sleep(0.2)
        assert begun(folder), "the run ended before it began"
        mark = read_object(folder / "family.json")["mark"]
        family = psutil.Process(process.pid).children(recursive=True)
        workers = [each for each in family if each.name().startswith("VLLM::Worker")]
        assert workers
        for each in workers:
            each.suspend()
        assert process.wait(LIMIT) == 2
    finally:
        process.kill()
        process.wait()
    assert read_object(folder / "status.json")["status"] == HUNG
    assert WAITING[0] in (folder / "log.txt").read_text(), "nothing was said while it hung, so the test shows little"
    assert not marked(mark) and not any(each.is_running() for each in workers)
    assert not left_since(there)


def test_a_killed_run_is_resumed_to_the_same_end(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("verl", reason="verl is not installed: make setup-full")
    recipe = tmp_path / "short.toml"
    recipe.write_text(RECIPE)
    there = {each.name for each in SHARED.iterdir()}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    note = killed_after_the_first_checkpoint(recipe, broken)
    assert not (broken / "status.json").exists()
    assert ended(harness("resume", str(broken))) == 0
    assert not marked(note["mark"]) and not (broken / "family.json").exists()
    assert not [name for name in note["segments"] if (SHARED / name).exists() and name not in there]
    assert ended(harness("run", str(recipe), "--out", str(whole))) == 0
    one, other = read_object(broken / "record.json"), read_object(whole / "record.json")
    for name in ("effective_hash", "data_order", "data", "planned_steps", "valid"):
        assert one[name] == other[name], name
    for found in (one, other):  # the first stage is without noise; the resumed run begins in the second
        assert [told["robust/aqn_sigma"] for _, told in sorted(found["metrics"].items()) if told] == [0.0, 0.05]
    assert one["valid"] and set(one["metrics"]) == set(other["metrics"]) == {str(n) for n in range(1, STEPS + 1)}
    ((_, resumed),), ((_, straight),) = one["validations"], other["validations"]
    record_property("validation", f"{resumed:.4f} resumed, {straight:.4f} straight")
    record_property("weights equal", _same_weights(one, other))
    middle = (resumed + straight) / 2
    assert abs(resumed - straight) <= 4 * math.sqrt(2 * middle * (1 - middle) / ITEMS) + 1 / ITEMS
    assert not left_since(there)


def _same_weights(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["checkpoints"][str(STEPS)] == other["checkpoints"][str(STEPS)])
