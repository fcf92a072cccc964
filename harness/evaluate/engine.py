"""What the evaluation loop needs of an engine: batches go in, records with their ledger come out."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.evaluate.generation import Prompt
from harness.record import ItemResult, SiteCount
from harness.runs.choice import Choice
from harness.runs.store import Audit
from harness.spec import ErrorModel


@dataclass(frozen=True)
class Batch:
    """The prompts of one forward batch, all at one level; ``error`` replaces the error model (positive control).

    ``audited`` says by what choice some of its forwards are audited, None where none is.
    """

    level: float
    prompts: tuple[Prompt, ...]
    audited: Choice | None = None
    error: ErrorModel | None = None


@dataclass(frozen=True)
class Ran:
    """What an engine made of one batch or several: records, what it counted meanwhile, what audits found.

    ``passes`` holds, by level, how often quantized weights were booked, where that is not the number of forwards.
    """

    results: Sequence[ItemResult]
    counts: Sequence[SiteCount]
    audits: tuple[Audit, ...] = ()
    passes: Mapping[float, int] | None = None


class Engine(Protocol):
    """Runs batches. Batches may come back merged and in another order; each comes back once."""

    def stream(self, batches: Iterable[Batch]) -> Generator[Ran, None, None]:
        """What ``batches`` gave, as soon as it is there. Closing the iterator stops the work.

        Batches are taken as late as possible: which of them are audited follows from what is stored by then.
        """


EngineContext = contextlib.AbstractContextManager[Engine]
