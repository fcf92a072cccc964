"""Verdicts kept beside the records they were computed from, so that anybody can recompute them, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.exceptions import NotComparableError
from harness.runs.folder import guarded, write_atomically
from harness.runs.manifest import digest

FOLDER = "verdicts"


def verdict_text(verdict: Mapping[str, Any]) -> str:
    """Return the bytes of a verdict: sorted keys, so that equal verdicts are equal files."""
    return json.dumps(verdict, indent=1, sort_keys=True, allow_nan=False) + "\n"


def verdict_file(run: Path, baseline: str, policy: str) -> Path:
    """Return where the verdict of ``run`` against a baseline (its checksum) under a policy (its text) is kept."""
    return run / FOLDER / f"{digest(f'{baseline}|{policy}')}.json"


def keep_verdict(file: Path, verdict: Mapping[str, Any]) -> None:
    """Write the verdict atomically. Raises :class:`harness.exceptions.StoreError` where that is not possible."""
    with guarded(file.parent.parent):
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, verdict_text(verdict))


def check_verdict(file: Path, verdict: Mapping[str, Any]) -> bool:
    """Return True where ``verdict`` is the stored one byte for byte, False where none is stored.

    Raises :class:`NotComparableError` where they differ: records, baseline or code are not what they were.
    """
    if not file.is_file():
        return False
    if file.read_text() != verdict_text(verdict):
        raise NotComparableError(
            f"verdict {file}",
            "recomputed from the records it comes out differently",
            "find out whether records, baseline or this version changed; then remove the file and gate again",
        )
    return True
