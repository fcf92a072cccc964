"""What long work tells whoever watches it: its cost, its stages and how far it is (standard library only)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol


class Watcher(Protocol):
    """Told of what the work will cost and how far it is; printing is the business of whoever watches."""

    def cost(self, line: str) -> None:
        """Take one line before the work it speaks of."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Begin a stage of ``total`` steps, ``done`` of which were done before."""

    def advance(self, count: int) -> None:
        """Take note that ``count`` more steps of the stage are done."""


class Silent:
    """A watcher that says nothing."""

    def cost(self, line: str) -> None:
        """Do nothing."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, count: int) -> None:
        """Do nothing."""


def process_seconds() -> float:
    """Return for how many seconds this process has run: what starting Python took, too. 0 where the system does not
    say it."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def duration(seconds: float) -> str:
    """Return seconds below two minutes, else minutes: ``90 s``, ``3 min``."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
