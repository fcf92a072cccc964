"""Several engines share the batches of one evaluation, over Ray: one actor each, every actor a process of its own.

Ray's own pool gives a batch to whoever is free and its own restarts redo the batch of an actor that died. Nothing of a
batch is stored before its results and counts are back together, so that a lost batch leaves no record and no count.
Draws are keyed by item and position, so that results are bitwise the same for any number of workers.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import operator
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import Any

import torch

from harness.engines.protocol import Batch, Evaluation, Ran
from harness.engines.registry import engine_kind
from harness.engines.workers.ray_session import check_ray, connected
from harness.engines.workers.worker import Done, Preparer, Worker, job_of
from harness.exceptions import HarnessError
from harness.spec import EngineOptions

log = logging.getLogger(__name__)

RESTARTS = 1
"""How often a worker that died is started again, each time with the batch it had."""

_RESUMES = "what is stored is kept: the same command resumes"


class Workers:
    """An engine for :func:`harness.evaluate.run.evaluate`: ``options.workers`` engines in processes of their own.

    ``evaluation`` may be an outline; each worker loads the checkpoint itself, on ``device``, with ``prepare``, and
    opens its engine. One batch at a time is with each worker. Raises :class:`HarnessError` where Ray is not installed
    or has too few places, where a worker dies twice or none answers in ``options.timeout`` seconds, and every one that
    is raised in a worker, as it is there.
    """

    def __init__(
        self, evaluation: Evaluation, options: EngineOptions, prepare: Preparer, device: str | None = None
    ) -> None:
        check_ray(options.workers)
        self._evaluation, self._options, self._device = evaluation, options, device
        self._prepare, self._kind = prepare, engine_kind(evaluation.spec.engine)
        self._exit = contextlib.ExitStack()
        self._actors: list[Any] = []
        self._processes: dict[int, int] = {}

    def __enter__(self) -> Workers:
        options = self._options
        with contextlib.ExitStack() as stack:
            self._kind.together(self._evaluation, options)
            needs = {"CPU": 1.0} | ({"GPU": 1.0} if self._on_cuda() else {})
            stack.enter_context(connected(options.workers, needs, log.isEnabledFor(logging.DEBUG)))
            stack.callback(self._kill)
            self._start(needs)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _on_cuda(self) -> bool:
        return torch.cuda.is_available() and (self._device is None or self._device.startswith("cuda"))

    def _start(self, needs: dict[str, float]) -> None:
        import ray

        job = job_of(self._evaluation, self._options, self._device)
        remote = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=needs.get("GPU", 0.0),
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
        )(Worker)
        for number in range(1, self._options.workers + 1):
            self._actors.append(remote.remote(number, job, self._prepare))

    def _kill(self) -> None:
        """At once: what they run now is not stored in any case."""
        import ray

        for actor in self._actors:
            with contextlib.suppress(Exception):  # Ray itself may be gone
                ray.kill(actor)
        self._actors.clear()

    def stream(self, batches: Iterable[Batch]) -> Generator[Ran, None, None]:
        """Yield every batch, from whichever worker is free; closed, at most the running ones are lost.

        Batches are taken when a worker has nothing to do, so that the choice of audited ones follows from what came
        back before.
        """
        from ray.util import ActorPool

        pool = ActorPool(list(self._actors))
        works = portions(batches, self._kind.takes, self._options.workers)
        for work in itertools.islice(works, len(self._actors)):
            pool.submit(_run, work)
        while pool.has_next():
            done = self._next(pool)
            self._note(done)
            yield from done.ran  # stored before the next one is chosen
            for work in itertools.islice(works, 1):
                pool.submit(_run, work)

    def _next(self, pool: Any) -> Done:
        """What comes back first."""
        from ray.exceptions import RayError

        timeout = self._options.timeout
        try:
            done: Done = pool.get_next_unordered(timeout=timeout)
        except TimeoutError:
            raise HarnessError(
                f"--timeout {timeout:g}", "no worker answered within that many seconds", f"give more; {_RESUMES}"
            ) from None
        except RayError as error:
            raise error_of(error) from error
        return done

    def _note(self, done: Done) -> None:
        """Says so where a worker has another process than before."""
        known = self._processes.setdefault(done.worker, done.process)
        if known != done.process:
            self._processes[done.worker] = done.process
            log.warning("worker %d died and was started again; its batch was done again", done.worker)


def _run(actor: Any, work: tuple[Batch, ...]) -> Any:
    return actor.run.remote(work)


def portions(batches: Iterable[Batch], together: int, workers: int) -> Iterator[tuple[Batch, ...]]:
    """Yield what workers are given at a time: audited batches alone, of the others at most ``together`` in their order,
    and fewer where some worker would get nothing."""
    size = max(1, min(together, -(-operator.length_hint(batches) // workers)))
    waiting: list[Batch] = []
    for batch in batches:
        if batch.audited:
            yield (batch,)
            continue
        waiting.append(batch)
        if len(waiting) == size:
            yield tuple(waiting)
            waiting = []
    if waiting:
        yield tuple(waiting)


def error_of(error: Exception) -> Exception:
    """Return what a user is told about an error of Ray's: the error raised in a worker as it was, or that a worker
    died."""
    from ray.exceptions import RayTaskError

    if isinstance(error, RayTaskError):
        cause: Exception = error.cause if isinstance(error.cause, HarnessError) else error
        return cause
    return HarnessError(
        f"a worker died {RESTARTS + 1} times ({' '.join(str(error).split()):.300})",
        "it was started again once; a process that is killed is most often out of memory",
        f"give fewer --workers or a smaller --batch-size; {_RESUMES}",
    )
