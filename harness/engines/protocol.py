"""What the loop needs of an engine, and an engine of an evaluation: batches go in, records with their ledger come out.

:class:`EngineKind` is a row of the registry: everything that is not the same for all engines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from harness.checkpoints.source import Source
from harness.distributions import Keep
from harness.engines.generation import Completion, Decoding, Prompt
from harness.engines.likelihood import Likelihood
from harness.engines.sessions import Sessions
from harness.noise.plan import InjectionPlan
from harness.record import ItemResult, SiteCount
from harness.runs.choice import Choice
from harness.runs.store import Audit
from harness.spec import EngineOptions, ErrorModel, EvalSpec


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
        """Yield what ``batches`` gave, as soon as it is there. Closing the iterator stops the work.

        Batches are taken as late as possible: which of them are audited follows from what is stored by then.
        """


EngineContext = contextlib.AbstractContextManager[Engine]


class Loaded(Protocol):
    """A checkpoint with its model (``transformers.PreTrainedModel``), which has no weights where it is an outline."""

    @property
    def model(self) -> Any:
        """Return the model, in evaluation mode."""

    @property
    def source(self) -> Source:
        """Return where it came from."""

    @property
    def path(self) -> Path:
        """Return the folder that was asked for."""


class Evaluation(Protocol):
    """What an engine is told about an evaluation: :class:`harness.evaluate.prepared.Prepared` is one."""

    @property
    def spec(self) -> EvalSpec:
        """Return what is evaluated."""

    @property
    def checkpoint(self) -> Loaded:
        """Return the checkpoint."""

    @property
    def plan(self) -> InjectionPlan:
        """Return the sites of the noise."""

    @property
    def quantizers(self) -> tuple[InjectionPlan, ...]:
        """Return the sites of every quantization."""

    @property
    def prompts(self) -> Mapping[str, tuple[int, ...]]:
        """Return the token ids of every prompt, by item."""

    @property
    def decoding(self) -> Decoding:
        """Return how long an answer may be and what ends it."""

    @property
    def longest(self) -> int:
        """Return the tokens of the longest prompt and the longest answer together."""

    @property
    def key(self) -> Mapping[str, str]:
        """Return the measurement key."""

    def session(self, *, in_place: bool = False) -> contextlib.AbstractContextManager[Sessions]:
        """Open the noise and the quantization on the model."""

    def result(self, prompt: Prompt, completion: Completion, level: float) -> ItemResult:
        """Return the record of what an engine made of ``prompt`` at ``level``."""

    def kept(self, prompts: Sequence[Prompt], level: float) -> Sequence[Keep]:
        """Return what is kept beside the scored tokens of each of ``prompts``; empty: nothing."""

    def scored(self, prompt: Prompt, found: Sequence[Likelihood], level: float) -> ItemResult:
        """Return the record of a prompt whose continuations are scored: one of ``found`` for each."""

    @property
    def probed(self) -> tuple[Prompt, ...]:
        """Return the prompts of all items, the longest first, with noise seed 0."""


def _anything(*given: object) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class EngineKind:
    """A row of the registry. ``open`` makes the engine of an evaluation, not yet started.

    Each check raises :class:`harness.exceptions.HarnessError`: ``check`` before anything is read (of what is evaluated
    and of ``--device``, None if not given), ``check_checkpoint`` for what was loaded, ``check_plans`` for what is to be
    perturbed and quantized in it, ``together`` for how it is run (workers, batch size, memory), before one is opened.

    ``scores`` is True where it scores given continuations too, and does not only generate. ``loads`` is False where
    the engine loads the model in processes of its own; this process then has an outline without weights. ``takes``
    counts the batches that one engine works on together. ``probe`` measures the seconds of a batch of that many items,
    None where that cannot be done without starting the engine. ``environment`` is set in a worker before its engine is
    opened. ``distributions`` names what must not change within a run beside transformers: name -> distributions, of
    which the first that is installed counts.
    """

    name: str
    open: Callable[[Evaluation, EngineOptions], EngineContext]
    check: Callable[[EvalSpec, str | None], None] = _anything
    check_checkpoint: Callable[[Loaded], None] = _anything
    check_plans: Callable[[Sequence[InjectionPlan]], None] = _anything
    together: Callable[[Evaluation, EngineOptions], None] = _anything
    scores: bool = False
    loads: bool = True
    takes: int = 1
    probe: Callable[[Evaluation, int], float] | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    distributions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
