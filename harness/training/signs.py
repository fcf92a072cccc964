"""Signs of life in files that a run writes: whole lines since the last look, those of somebody who waits left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

WAITING = ("No available shared memory broadcast block found",)
"""What vLLM's engine writes every minute for as long as a worker does not answer, at the log level INFO."""

_ENDS = re.compile(rb"[\r\n]+")


class Signs:
    """``waiting`` are words of lines that are no sign of life."""

    def __init__(self, waiting: Sequence[str] = ()) -> None:
        self._waiting = tuple(word.encode() for word in waiting)
        self._read: dict[Path, int] = {}

    def seen(self, files: Sequence[Path]) -> bool:
        """Return whether any of ``files`` has a new line since the last call; the first call looks at all of it."""
        return sum(map(self._grown, files)) > 0

    def _grown(self, file: Path) -> bool:
        try:
            with file.open("rb") as source:
                source.seek(self._read.get(file, 0))
                text = source.read()
        except OSError:
            return False  # not there yet
        whole = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1  # the rest is still being written
        self._read[file] = self._read.get(file, 0) + whole
        lines = (line for line in _ENDS.split(text[:whole]) if line.strip())
        return any(not any(word in line for word in self._waiting) for line in lines)
