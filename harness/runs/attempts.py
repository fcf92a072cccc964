"""Every gating of a run is numbered beside it: margins that were tried until one fitted do not go unseen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.runs.kept_verdicts import FOLDER

FILE, LOCK = "attempts.jsonl", ".attempts.lock"
NOT_COUNTED = "attempts on this run cannot be counted: its folder cannot be written"


@dataclass(frozen=True)
class Attempt:
    """One gating of a run. ``baseline`` is its digest, ``margins`` a text of all limits of the policy.

    ``session`` names a test session that judges its levels one by one: what it asks again is the same attempt.
    """

    baseline: str
    margins: str
    policy: str
    verdict: str
    session: str = ""

    def same(self, other: dict[str, Any]) -> bool:
        """Return True where the same session asked the same before."""
        names = ("baseline", "policy", "session")
        return bool(self.session) and all(other.get(name) == getattr(self, name) for name in names)


def count_attempt(run: Path, attempt: Attempt) -> str:
    """Number ``attempt`` in ``verdicts/`` of the folder ``run``, and say how many there were, in words for
    reports.

    Concurrent attempts get different numbers. A folder that cannot be written is said to be so.
    """
    folder = run / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        with FileLock(folder / LOCK):
            earlier = list(_read(folder / FILE))
            again = next((number for number, known in enumerate(earlier) if attempt.same(known)), None)
            if again is not None:
                return _words(run, attempt, again + 1, earlier[:again])
            with (folder / FILE).open("a") as file:
                file.write(json.dumps({"number": len(earlier) + 1, **asdict(attempt)}, sort_keys=True) + "\n")
    except OSError:
        return NOT_COUNTED
    return _words(run, attempt, len(earlier) + 1, earlier)


def _words(run: Path, attempt: Attempt, number: int, earlier: list[dict[str, Any]]) -> str:
    others = sum(known.get("margins") != attempt.margins for known in earlier)
    beside = sum(
        known.get("baseline") == attempt.baseline
        for file in run.parent.glob(f"*/{FOLDER}/{FILE}")
        for known in _read(file)
    )
    return (
        f"attempt {number} on this run, {others} with other margins; {beside} against this baseline in the folder of"
        " this run"
    )


def _read(file: Path) -> Iterator[dict[str, Any]]:
    """The attempts of a file; a line that is none counts as one of unknown margins."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeError):
        return
    for line in lines:
        try:
            known = json.loads(line)
        except ValueError:
            known = None
        yield known if isinstance(known, dict) else {}
