"""The engine of an evaluation: the one of the registry, or several of them in workers."""

from __future__ import annotations

from harness.engines.protocol import EngineContext
from harness.engines.registry import engine_kind
from harness.evaluate.prepared import Prepared, prepare
from harness.spec import EngineOptions


def engine_of(prepared: Prepared, options: EngineOptions, device: str | None = None) -> EngineContext:
    """Return the engine that the specification names, not yet started; ``device`` is for workers that load it
    themselves.

    Raises :class:`harness.exceptions.HarnessError` where the engine may not be run so.
    """
    kind = engine_kind(prepared.spec.engine)
    if options.workers > 1:
        from harness.engines.workers.pool import Workers

        return Workers(prepared, options, prepare, device)
    kind.together(prepared, options)  # the workers' pool asks for itself
    return kind.open(prepared, options)
