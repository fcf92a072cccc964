"""How a verb ends with an exit code of its own, and which codes there are."""

from __future__ import annotations

PASS, FAIL, BAD_INPUT, INCONCLUSIVE, INVALID = 0, 1, 2, 3, 4
CRASHED = 70
"""An error that nobody foresaw (``EX_SOFTWARE`` of sysexits.h): never the code of a verdict."""

INTERRUPTED, PIPE_CLOSED = 130, 141


class Ended(SystemExit):
    """The end of a verb with the code that it means.

    Verbs raise this one and no other: a bare ``SystemExit`` comes from a library, whose code 1 is no FAIL.
    """
