"""The evaluation loop: one load, all levels and seeds, batch by batch into the store."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.engines.device import out_of_memory_as
from harness.engines.protocol import Batch, Engine, EngineContext, Ran
from harness.evaluate.opening import engine_of
from harness.evaluate.prepared import Prepared
from harness.evaluate.replaying import repeat_clean, replay_records
from harness.exceptions import EvidenceError
from harness.record import ERROR, MEASURED, ControlResult, ItemResult
from harness.runs.choice import Chooser
from harness.runs.controlled import control_items
from harness.runs.evidence import judge_control
from harness.runs.store import Store
from harness.scorers.perplexity import NATS, TOKENS
from harness.spec import DEFAULT_BATCH, EngineOptions, RelativeGaussian
from harness.stats import wilson
from harness.text import named
from harness.thresholds import CONTROL_SCALE, LEARNED_NATS

log = logging.getLogger(__name__)


def batches(prepared: Prepared, done: set[tuple[str, float, int]], size: int) -> Iterator[Batch]:
    """Yield what is left to do, level by level (clean first), longest prompts first."""
    for level in prepared.spec.levels:
        left = [
            prepared.prompt(item.key, seed)
            for item in prepared.items
            for seed in prepared.spec.seeds_at(level)
            if (item.key, level, seed) not in done
        ]
        left.sort(key=lambda prompt: -len(prompt.tokens))
        for start in range(0, len(left), size):
            yield Batch(level, tuple(left[start : start + size]))


class Handed:
    """Batches with the choice of those that are audited, made when each is handed out: from what is stored by then."""

    def __init__(self, batches: Sequence[Batch], store: Store) -> None:
        self._batches, self._store = batches, store

    def __length_hint__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in their order."""
        chooser, sizes, places = Chooser(), Counter(batch.level for batch in self._batches), Counter[float]()
        for batch in self._batches:
            level, place = batch.level, places[batch.level]
            places[level] += 1
            yield replace(batch, audited=chooser.choose(level, place, sizes[level], self._store.trail()))


def whole(prepared: Prepared, store: Store) -> Iterator[Prepared]:
    """Yield all of it at once: the parts of an evaluation that does not stop early."""
    yield prepared


def evaluate(
    prepared: Prepared,
    out: Path,
    batch_size: int = DEFAULT_BATCH,
    advance: Callable[[int], None] = lambda n: None,
    parts: Callable[[Prepared, Store], Iterator[Prepared]] = whole,
    engine: EngineContext | None = None,
    mixed_code: bool = False,
) -> None:
    """Run what is missing of ``prepared`` into the run folder ``out``; ``advance(n)`` is called after every n records.

    ``parts`` says what is evaluated after what, and may stop after looking at what is stored. ``engine`` is the one of
    :func:`engine_of`, unless another is given; it is started only where something is left to do.
    Can be stopped at any moment and called again: at most what runs is lost, and a finished run is
    left as it is. Out-of-memory and other engine errors stop the run, resumable. Going on where another version of the
    code began raises :class:`harness.exceptions.NotComparableError` unless ``mixed_code`` allows and records it.
    """
    options = EngineOptions(batch_size)
    smaller = "give a smaller --batch-size: the same command resumes"
    with (
        out_of_memory_as(f"--batch-size {batch_size}", smaller),
        Store.create(out, prepared.manifest(), mixed_code) as store,
    ):
        done = store.done()
        advance(len(done))
        store.add_questions(
            {item.key: item.question for item in prepared.items}, {item.key: item.reference for item in prepared.items}
        )
        with contextlib.ExitStack() as stack:
            running = _Lazy(stack, engine or engine_of(prepared, options), store)
            for part in parts(prepared, store):
                wanted = list(batches(part, done, batch_size))
                clean, noisy = ([b for b in wanted if bool(b.level) is above] for above in (False, True))
                _run(running, clean, store, advance)
                if noisy:
                    _control(prepared, running, store)
                    _run(running, noisy, store, advance)
            _control(prepared, running, store)
            repeat_clean(prepared, running, store)
        replay_records(prepared, store)  # the engine is closed: its memory is free, its hooks are gone


class _Lazy:
    """An engine that is started when it is first needed: a finished run needs none."""

    def __init__(self, stack: contextlib.ExitStack, engine: EngineContext, store: Store) -> None:
        self._stack, self._engine, self._store = stack, engine, store
        self._open: Engine | None = None

    def stream(self, batches: Iterable[Batch]) -> Generator[Ran, None, None]:
        """As :meth:`harness.engines.protocol.Engine.stream`."""
        if self._open is None:
            self._store.check_code()
            self._open = self._stack.enter_context(self._engine)
        return self._open.stream(batches)


def _run(engine: Engine, wanted: Sequence[Batch], store: Store, advance: Callable[[int], None]) -> None:
    """Everything that ``wanted`` asks for, into the store as it comes."""
    if not wanted:
        return
    started = time.monotonic()
    left = {(batch.level, prompt.item, prompt.seed) for batch in wanted for prompt in batch.prompts}
    with contextlib.closing(engine.stream(Handed(wanted, store))) as answers:
        for ran in answers:
            left -= {(result.level, result.item, result.seed) for result in ran.results}
            store.add_batch(ran.results, ran.counts, ran.audits, ran.passes)
            log.debug("%d records in %.2f s", len(ran.results), time.monotonic() - started)
            started = time.monotonic()
            advance(len(ran.results))
    _check_whole({item for _, item, _ in left}, len(left))


def _check_whole(items: Collection[str], records: int) -> None:
    """Raise :class:`EvidenceError` where the engine gave nothing back for some ``items``: a run without is no evidence.

    ``records`` counts what is missing of them.
    """
    if items:
        raise EvidenceError(
            f"{len(items)} items missing from the run ({named(items)})",
            f"the engine gave back no answer to {records} of its prompts",
            "the same command asks for them again; if they stay away, use another --engine",
        )


def _control(prepared: Prepared, engine: Engine, store: Store) -> None:
    """Runs the positive control, where one is wanted and has not run, and stores its outcome.

    Its items are those of :func:`harness.runs.controlled.control_items`, each with its first draw.
    """
    if not prepared.spec.positive_control or store.control() is not None:
        return
    scored = {
        key: [(len(each.context), len(each.continuation)) for each in own] for key, own in prepared.requests.items()
    }
    items = control_items([item.key for item in prepared.items], scored, prepared.plan.spec.spans)
    clean = [result for result in store.results() if (result.level, result.seed) == (0, 0)]
    at_floor = _at_floor(prepared, clean)
    prompts = tuple(prepared.prompt(item, 0) for item in items)
    batch = Batch(CONTROL_SCALE, prompts, error=RelativeGaussian())
    with contextlib.closing(engine.stream((batch,))) as answers:
        noisy = [result for ran in answers for result in ran.results]
    _check_whole(set(items) - {result.item for result in noisy}, len(items) - len(noisy))
    store.set_control(_judged(clean, noisy, at_floor))


def _at_floor(prepared: Prepared, clean: Sequence[ItemResult]) -> bool:
    """Whether there is nothing to lose: an accuracy at the task's floor, or texts that the model finds hardly more
    probable than if every token of its vocabulary were as probable as another."""
    texts = [result.scores for result in clean if result.reason == MEASURED]
    if texts:
        nats, tokens = (sum(scores.get(name) or 0.0 for scores in texts) for name in (NATS, TOKENS))
        return nats <= tokens * (LEARNED_NATS - math.log(prepared.checkpoint.rows))
    right = sum(result.score == 1.0 for result in clean)
    measured = sum(result.reason != ERROR for result in clean)
    return wilson(right, measured).low < prepared.task.floor


def _judged(clean: Sequence[ItemResult], noisy: Sequence[ItemResult], at_floor: bool) -> ControlResult:
    result = judge_control(clean, noisy, CONTROL_SCALE, at_floor)
    for problem in result.problems:
        log.warning("%s: this run will be INVALID", problem)
    return result
