"""How an evaluation is run, apart from what it measures (standard library only)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.exceptions import HarnessError
from harness.spec.evaluation import DEFAULT_BATCH

DEFAULT_TIMEOUT = 1800.0
"""Seconds without any answer after which an engine in another process is given up."""


@dataclass(frozen=True)
class EngineOptions:
    """No result depends on these. ``batch_size`` sequences are decoded together on each of ``workers`` engines;
    ``timeout`` is in seconds without an answer of an engine in another process. ``mixed_code`` lets another version of
    the code go on in a run, which is recorded. Raises :class:`HarnessError`."""

    batch_size: int = DEFAULT_BATCH
    workers: int = 1
    timeout: float = DEFAULT_TIMEOUT
    mixed_code: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise HarnessError(f"--batch-size {self.batch_size}", "a batch holds at least one item", "give 1 or more")
        if self.workers < 1:
            raise HarnessError(f"--workers {self.workers}", "at least one engine is needed", "give 1 or more")
        if not 0 < self.timeout < math.inf:
            raise HarnessError(f"--timeout {self.timeout:g}", "it is in seconds, above 0", "give for example 1800")
