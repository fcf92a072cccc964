"""The four verdicts, their order and their exit codes."""

from __future__ import annotations

from collections.abc import Iterable

PASS, FAIL, INCONCLUSIVE, INVALID = "PASS", "FAIL", "INCONCLUSIVE", "INVALID"

EXIT_CODES = {PASS: 0, FAIL: 1, INCONCLUSIVE: 3, INVALID: 4}
"""Exit code of each verdict (2 is bad arguments or unreadable files, an error and no verdict)."""

_ORDER = (INVALID, FAIL, INCONCLUSIVE, PASS)


def worst(verdicts: Iterable[str]) -> str:
    """Return INVALID before FAIL before INCONCLUSIVE before PASS; INVALID where there is none at all."""
    return min(verdicts, key=_ORDER.index, default=INVALID)


def exit_code(verdict: str) -> int:
    """Return PASS 0, FAIL 1, INCONCLUSIVE 3, INVALID 4."""
    return EXIT_CODES[verdict]
