"""The engine ``transformers``: the model in this process, batch by batch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace

from harness.engines.auditing import ScoringWatch, Watch
from harness.engines.generation import Prompt, generate, nobody
from harness.engines.likelihood import parts_of, score
from harness.engines.protocol import Batch, EngineKind, Evaluation, Ran
from harness.engines.sessions import Sessions
from harness.record import ItemResult
from harness.runs.store import Audit
from harness.spec import EngineOptions, RelativeGaussian
from harness.thresholds import CONTROL_SCALE

_PROBE_STEPS = 8


class TransformersEngine:
    """The loaded model, batch by batch, in this process."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> TransformersEngine:
        self._session = self._exit.enter_context(self._evaluation.session(in_place=True))
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    def stream(self, batches: Iterable[Batch]) -> Generator[Ran, None, None]:
        """Yield what each batch gave, one after the other."""
        for batch in batches:
            if batch.prompts and batch.prompts[0].forced:
                yield score_batch(self._evaluation, self._session, batch)
                continue
            results, audits = run_batch(self._evaluation, self._session, batch)
            yield Ran(results, self._session.drain(batch.level), audits)


def run_batch(evaluation: Evaluation, session: Sessions, batch: Batch) -> tuple[list[ItemResult], tuple[Audit, ...]]:
    """Generate and score one batch; the ledger of ``session`` holds its counts afterwards."""
    error = batch.error or evaluation.plan.spec.error
    watch = None if batch.audited is None else Watch(evaluation, session, batch, batch.audited)
    items = [prompt.item for prompt in batch.prompts]
    seeds = [prompt.seed for prompt in batch.prompts]
    lengths = [len(prompt.tokens) for prompt in batch.prompts]
    with session.batch(items, seeds, batch.level, error, lengths):
        looking = nobody if watch is None else watch.at
        completions = generate(evaluation.checkpoint.model, batch.prompts, evaluation.decoding, session, looking)
    results = [
        evaluation.result(prompt, completion, batch.level)
        for prompt, completion in zip(batch.prompts, completions, strict=True)
    ]
    return results, () if watch is None else watch.audits(max(completion.steps for completion in completions))


def score_batch(evaluation: Evaluation, session: Sessions, batch: Batch) -> Ran:
    """Score the continuations of one batch."""
    model, prompts = evaluation.checkpoint.model, batch.prompts
    parts = parts_of(prompts, model.config.get_text_config().vocab_size)
    watch = None if batch.audited is None else ScoringWatch(evaluation, session, batch, batch.audited, parts)
    with session.batch(
        [prompt.item for prompt in prompts],
        [prompt.seed for prompt in prompts],
        batch.level,
        batch.error or evaluation.plan.spec.error,
    ):
        looking, kept = nobody if watch is None else watch.at, evaluation.kept(prompts, batch.level)
        found = score(model, prompts, evaluation.decoding.pad, session, looking, kept)
    results = [evaluation.scored(prompt, own, batch.level) for prompt, own in zip(prompts, found, strict=True)]
    audits = () if watch is None else watch.audits()
    return Ran(results, session.drain(batch.level), audits, {batch.level: len(parts)})


def probe_seconds(evaluation: Evaluation, batch_size: int) -> float:
    """Return the seconds that one full batch would take if every answer were as long as allowed.

    A noisy batch of the longest prompts is run for a few tokens, and extrapolated: an upper estimate. Nothing is
    stored.
    """
    prompts = evaluation.probed[:batch_size]
    if prompts[0].forced:
        return _scoring_seconds(evaluation, prompts[:_PROBE_STEPS]) * batch_size
    steps = min(_PROBE_STEPS, evaluation.decoding.max_new_tokens)
    short = replace(evaluation.decoding, max_new_tokens=steps, stop=(), until=None)
    items = [prompt.item for prompt in prompts]
    with (
        evaluation.session() as session,
        session.batch(items, [0] * len(items), CONTROL_SCALE, RelativeGaussian(), [len(p.tokens) for p in prompts]),
    ):
        begun = time.monotonic()
        generate(evaluation.checkpoint.model, prompts, short, session)
        elapsed = time.monotonic() - begun
    return elapsed / steps * evaluation.decoding.max_new_tokens * batch_size / len(prompts)


def _scoring_seconds(evaluation: Evaluation, prompts: Sequence[Prompt]) -> float:
    """Seconds for each of ``prompts``, whose continuations are scored."""
    items = [prompt.item for prompt in prompts]
    with (
        evaluation.session() as session,
        session.batch(items, [0] * len(items), CONTROL_SCALE, RelativeGaussian()),
    ):
        begun = time.monotonic()
        score(evaluation.checkpoint.model, prompts, evaluation.decoding.pad, session)
        return (time.monotonic() - begun) / len(prompts)


def _open(evaluation: Evaluation, options: EngineOptions) -> TransformersEngine:
    return TransformersEngine(evaluation)


KIND = EngineKind("transformers", _open, scores=True, probe=probe_seconds)
"""The row of the registry."""
