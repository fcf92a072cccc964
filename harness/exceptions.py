"""The few errors a user can meet. Each message names the value, the rule it broke and the way out."""

from __future__ import annotations

from harness.text import one_line


class HarnessError(Exception):
    """Bad input: an unreadable, truncated or contradictory file, or a bad argument. Exit code 2.

    ``str(error)`` is always a single line that steers no terminal, so that anybody can print it as it is.
    """

    exit_code = 2

    def __init__(self, value: str, rule: str = "", way_out: str = "") -> None:
        parts = [value] + [part for part in (rule, way_out) if part]
        super().__init__(one_line(" ".join("; ".join(parts).split())))


class NoiseSpecError(HarnessError):
    """A noise specification that cannot be parsed, matches nothing, or asks for what cannot be reached."""


class CheckpointError(HarnessError):
    """A checkpoint that is missing, incomplete, corrupt, or holds NaN or infinite weights."""


class StoreError(HarnessError):
    """A run directory that cannot be written, read, or belongs to another run."""


class NotComparableError(HarnessError):
    """Sound files that may not be compared, or that lack evidence: the verdict is INVALID. Exit code 4."""

    exit_code = 4


class EvidenceError(NotComparableError):
    """The ledger does not prove what was required of it. Exit code 4."""
