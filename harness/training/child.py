"""One child process with everything that it starts: watched while it lives, gone with its shared memory afterwards.

Ray, its actors and vLLM's workers leave the process group and may outlive their parent, so that they are known by a
mark in their environment, which all of them inherit.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import math
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from harness.exceptions import HarnessError
from harness.runs.folder import write_atomically
from harness.strict import read_object
from harness.training.signs import WAITING, Signs

MARK = "ROBUSTNESS_RUN_MARK"
SHARED = Path("/dev/shm")
_PARENT_DEATH = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

POLL, GRACE = 1.0, 10.0
"""Seconds between two looks, and from the polite signal to the other."""

log = logging.getLogger(__name__)


class Hung(HarnessError):
    """Nothing was heard of the child for too long; it has been killed."""


class Interrupted(HarnessError):
    """The run was told to stop (Ctrl-C, SIGTERM); its processes are gone. Exit code 130."""

    exit_code = 130


@dataclass
class Family:
    """All processes with one mark, and the shared-memory files that they were seen to map.

    Both stand in the file ``note`` as well, so that another process can end what a killed one left.
    """

    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    segments: set[str] = field(default_factory=set)
    seen: set[psutil.Process] = field(default_factory=set)
    note: Path | None = None

    def members(self) -> list[psutil.Process]:
        """Return the living processes with the mark, and children of theirs that were seen: some of Ray's rename
        themselves, which wipes their environment. Zombies and this process are none."""
        found = [each for each in self.seen if _lives(each)]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process not in self.seen and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def look(self) -> None:
        """Remember which segments of shared memory the members map."""
        before = set(self.segments)
        for process in self.members():
            self.segments |= mapped(process.pid)
            with contextlib.suppress(psutil.Error):
                self.seen |= set(process.children(recursive=True))
        if self.note is not None and (self.segments != before or not self.note.exists()):
            told = {"mark": self.mark, "segments": sorted(self.segments)}
            write_atomically(self.note, json.dumps(told) + "\n")

    def end(self) -> None:
        """Ask every member to end, kill those that do not, and remove the segments that nobody maps any more."""
        self.look()
        for send in ("terminate", "kill"):
            living = self.members()
            for process in living:
                with contextlib.suppress(psutil.Error):
                    getattr(process, send)()
            psutil.wait_procs(living, timeout=GRACE)
        used = {name for process in psutil.process_iter() for name in mapped(process.pid)}
        for name in self.segments - used:
            (SHARED / name).unlink(missing_ok=True)
        if self.note is not None:
            self.note.unlink(missing_ok=True)


def end_leftovers(note: Path) -> bool:
    """End what the child of a killed process left running or in shared memory, by its ``note``; return whether there
    was a note at all."""
    if not note.is_file():
        return False
    told = read_object(note)
    Family(str(told["mark"]), {str(name) for name in told["segments"]}, note=note).end()
    return True


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, however it dies; Linux alone can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGTERM)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def mapped(pid: int) -> set[str]:
    """Return the names of the files in /dev/shm that the process ``pid`` maps, those already removed left out.

    By inode: a semaphore is mapped under a name that is gone by the time it has its own.
    """
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    inodes = {int(line.split(maxsplit=5)[4]) for line in lines if f" {SHARED}/" in line}
    found = set()
    for file in SHARED.iterdir() if inodes else ():
        with contextlib.suppress(OSError):
            if file.stat().st_ino in inodes:
                found.add(file.name)
    return found


@dataclass(frozen=True)
class Watch:
    """``files`` are those that get lines while the child lives; it is killed after ``silence`` seconds without one, and
    after ``stall`` seconds in which it goes on talking and ``work`` gets none.

    ``said`` is called at every look. ``note`` is where the child's processes and segments are written down meanwhile.
    """

    files: Callable[[], Sequence[Path]]
    silence: float
    said: Callable[[], None] = lambda: None
    note: Path | None = None
    work: Callable[[], Sequence[Path]] = lambda: ()
    stall: float = math.inf


def run_child(command: Sequence[str], environment: Mapping[str, str], output: Path, watch: Watch) -> int:
    """Run ``command`` in a session of its own until it ends; return its exit status.

    Whatever happens, no process of it is left, and no shared memory; where this process is killed, the child is told to
    end, and :func:`end_leftovers` does the rest. Raises :class:`Hung` and :class:`Interrupted`.
    """
    family = Family(note=watch.note)
    with output.open("ab") as sink, _signals() as told:
        process = subprocess.Popen(
            list(command),
            env={**environment, MARK: family.mark},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=output.parent,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, which takes no lock
        )
        try:
            return _waited(process, family, watch, told)
        finally:
            family.end()
            process.wait()


def _waited(process: subprocess.Popen[bytes], family: Family, watch: Watch, told: list[int]) -> int:
    heard = worked = time.monotonic()
    signs, works = Signs(WAITING), Signs()
    while process.poll() is None:
        time.sleep(POLL)
        if told:
            raise Interrupted(
                "the run", f"it was stopped by {signal.Signals(told[0]).name}", "harness train resume goes on"
            )
        family.look()
        watch.said()
        now = time.monotonic()
        heard = now if signs.seen(watch.files()) else heard
        worked = now if works.seen(watch.work()) else worked
        if now - heard > watch.silence:
            raise _hung(f"nothing was heard of it for {watch.silence:g} s")
        if now - worked > watch.stall:
            raise _hung(f"it finished no step and no validation for {watch.stall:g} s")
    return process.returncode


def _hung(words: str) -> Hung:
    return Hung(
        "the run", f"{words}, and its processes were killed", "its log says where; harness train resume goes on"
    )


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; elsewhere than on the main thread there are none."""
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):
                before[number] = signal.signal(number, note)
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
