"""One of several engines that share an evaluation: what runs inside a Ray actor. Knows nothing of Ray itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.checkpoints.source import Source
from harness.engines.device import out_of_memory_as
from harness.engines.protocol import Batch, Engine, Evaluation, Ran
from harness.engines.registry import engine_kind
from harness.exceptions import EvidenceError
from harness.integrations.vllm_plugin.payload import Payload
from harness.noise import environment
from harness.spec import EngineOptions, EvalSpec

THREADS = "OMP_NUM_THREADS"

Preparer = Callable[[Source, EvalSpec, str | None], Evaluation]
"""Loads an evaluation (checkpoint, specification, device): :func:`harness.evaluate.prepared.prepare`."""


@dataclass(frozen=True)
class Job:
    """What every worker is told: the evaluation, how to run it, and what must be equal in all processes.

    ``folder`` is the working directory that relative paths count from; ``threads`` is the number of threads of each
    worker.
    """

    source: Source
    spec: EvalSpec
    device: str | None
    options: EngineOptions
    folder: Path
    threads: int
    shared: Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """Some batches with all that was counted in them, and the process that ran them."""

    worker: int
    process: int
    ran: tuple[Ran, ...]


def job_of(evaluation: Evaluation, options: EngineOptions, device: str | None) -> Job:
    """Return the job of the workers of ``evaluation``; threads are the user's, else its share of the cores."""
    asked = os.environ.get(THREADS, "")
    share = max(1, len(os.sched_getaffinity(0)) // options.workers)
    threads = int(asked) if asked.isdecimal() and int(asked) else share
    return Job(
        evaluation.checkpoint.source, evaluation.spec, device, options, Path.cwd(), threads, shared_by(evaluation)
    )


def shared_by(evaluation: Evaluation) -> dict[str, Any]:
    """Return what must be equal in all processes of a run, for JSON: what is measured and injected, by what code."""
    payload = Payload.of(evaluation.checkpoint.model, evaluation.plan, evaluation.quantizers)
    return {**evaluation.key, **payload.to_json()}


class Worker:
    """Loads the checkpoint itself with ``prepare``, opens its engine at the first batches, and keeps both.

    Counts leave it with the results of the same batches: those of a worker that dies are lost together.
    """

    def __init__(self, number: int, job: Job, prepare: Preparer) -> None:
        self._number, self._job, self._prepare = number, job, prepare
        self._engine: Engine | None = None

    def run(self, batches: tuple[Batch, ...]) -> Done:
        """Return what the engine makes of ``batches``.

        Raises :class:`harness.exceptions.HarnessError`, also for memory.
        """
        options = self._job.options
        with out_of_memory_as(
            f"worker {self._number} of {options.workers} with --batch-size {options.batch_size}",
            "give fewer --workers or a smaller --batch-size: the same command resumes",
        ):
            if self._engine is None:
                self._engine = self._open()
            return Done(self._number, os.getpid(), tuple(self._engine.stream(iter(batches))))

    def _open(self) -> Engine:
        """Never left: it lives as long as its process, which is killed at the end."""
        job = self._job
        environment.refuse("an evaluation")
        with contextlib.suppress(OSError):  # another machine need not have it, if the paths are absolute
            os.chdir(job.folder)
        kind = engine_kind(job.spec.engine)
        os.environ.update(kind.environment)
        os.environ[THREADS] = str(job.threads)
        torch.set_num_threads(job.threads)
        evaluation = self._prepare(job.source, job.spec, job.device)
        self._check(shared_by(evaluation))
        return kind.open(evaluation, replace(job.options, workers=1)).__enter__()

    def _check(self, found: Mapping[str, Any]) -> None:
        """Processes that would measure different things may not share a run."""
        expected = self._job.shared
        different = sorted(name for name in expected if found.get(name) != expected[name])
        if different:
            raise EvidenceError(
                f"worker {self._number} of {self._job.options.workers} has another {', '.join(different)}",
                "all engines of a run inject and measure the same",
                "install the same harness and data on every machine",
            )
