"""After the last record: some answers again by the second implementation, some clean ones twice by the engine itself.

The rule that chooses them is :mod:`harness.runs.replayed`'s, the second implementation :mod:`harness.noise.replay`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from harness.engines.device import best_device
from harness.engines.generation import Decoding, Prompt
from harness.engines.protocol import Batch, Engine
from harness.evaluate.checkpoint import load_checkpoint
from harness.evaluate.prepared import Prepared
from harness.evaluate.replaying_scores import Logits, replay_scored, twice_scored
from harness.noise.replay.forcing import Answer, Replayed, replay
from harness.noise.replay.hooks import Layer
from harness.noise.replay.untouched import renew
from harness.record import ItemResult
from harness.runs.replayed import (
    NOT_FINITE,
    REPEATED,
    REPLAYED,
    Difference,
    Name,
    Replay,
    chosen,
    chosen_twice,
    unknown,
)
from harness.runs.store import Store

log = logging.getLogger(__name__)
_ROOM = 1.5
"""Free memory that a second copy of the weights needs, in units of their size."""


def repeat_clean(prepared: Prepared, engine: Engine, store: Store) -> None:
    """Have ``engine`` generate some clean answers again, and store whether they are those that are stored.

    Where they are not, the batch alone may have done it: then it is generated once more, and the two answers of the
    same batch are compared. Does nothing where the outcome is stored already.
    """
    if store.replays(REPEATED):
        return
    names = chosen_twice(store.results(), store.stored())
    if not names:
        return
    prompts = tuple(prepared.prompt(item, seed) for item, _, seed in names)
    if prepared.requests:
        store.add_replays(REPEATED, _scored_twice(prepared, engine, prompts, store.logits(0.0)))
        return
    first, again = {_name(result): result for result in store.results() if not result.level}, _answers(engine, prompts)
    if any(_ends(first[name]) != _ends(again[name]) for name in names):
        first, again = again, _answers(engine, prompts)
    decode = prepared.checkpoint.tokenizer.decode
    store.add_replays(REPEATED, {name: _twice(first[name], again[name], decode) for name in names})


def _scored_twice(
    prepared: Prepared, engine: Engine, prompts: tuple[Prompt, ...], stored: Mapping[Name, Logits]
) -> dict[Name, Replay]:
    """The same for continuations: their log-probabilities, within what the last bits of products explain."""

    def anew() -> dict[Name, Logits]:
        return {name: result.logits for name, result in _answers(engine, prompts).items()}

    def compared() -> dict[Name, Replay]:
        return {name: twice_scored(first[name], again[name], prepared.spec.dtype) for name in first}

    first: dict[Name, Logits] = {name: stored[name] for prompt in prompts for name in [(prompt.item, 0.0, prompt.seed)]}
    again = anew()
    found = compared()
    if any(replay.others for replay in found.values()):
        first, again = again, anew()
        found = compared()
    return found


def _answers(engine: Engine, prompts: tuple[Prompt, ...]) -> dict[Name, ItemResult]:
    with contextlib.closing(engine.stream(iter((Batch(0.0, prompts),)))) as answers:
        return {_name(result): result for ran in answers for result in ran.results}


def _name(result: ItemResult) -> Name:
    return result.item, result.level, result.seed


def _ends(result: ItemResult) -> list[int | None]:
    return [*result.tokens, *([None] * (not result.truncated))]


def _twice(first: ItemResult, second: ItemResult, decode: Any) -> Replay:
    """Token by token, the end of sequence included."""
    ends = [_ends(result) for result in (first, second)]
    length = max(len(end) for end in ends)
    for step in range(length):
        one, other = (end[step] if step < len(end) else -1 for end in ends)
        if one != other:
            return Replay(step + 1, (Difference(step, _word(one, decode), _word(other, decode), math.inf),))
    return Replay(length)


def replay_records(prepared: Prepared, store: Store) -> None:
    """Replay what the rule chooses of every level and store it; does nothing where all of that is stored.

    The model is loaded anew from its files, as every engine's was, and runs without the engine's sessions and hooks.
    Needs the memory of the weights once more; where that is not free, the model in memory is used, and the certificate
    says so.
    """
    results, stored, there = store.results(), store.stored(), store.replays(REPLAYED)
    reason = unknown(prepared.plan.spec.error, [site.name for site in prepared.plan.sites])
    missing = {
        level: [name for name in chosen(results, stored, level, prepared.plan.spec.spans) if name not in there]
        for level in prepared.spec.levels
        if level == 0 or not reason
    }
    if not any(missing.values()):
        return
    started = time.monotonic()
    records = {(result.item, result.level, result.seed): result for result in results}
    model = _model(prepared)
    in_memory = model is prepared.checkpoint.model
    for level, names in missing.items():
        wanted = [records[name] for name in names]
        found = _replays(prepared, model, wanted, store.logits(level), level)
        store.add_replays(REPLAYED, {name: replace(own, in_memory=in_memory) for name, own in found})
    seconds, count = time.monotonic() - started, sum(map(len, missing.values()))
    log.info("%d records replayed by the second implementation in %.1f s", count, seconds)


def replay_seconds(
    prepared: Prepared, records: Sequence[ItemResult], clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the seconds by ``clock`` of loading the model anew, and of replaying each of ``records`` (of one level,
    with their logits) with it; nothing is stored, and what is found is not looked at."""
    begun = clock()
    model = _model(prepared)
    loaded = clock()
    logits = {_name(record): record.logits for record in records}
    count = sum(1 for _ in _replays(prepared, model, records, logits, records[0].level)) if records else 0
    return loaded - begun, (clock() - loaded) / max(1, count)


def layers_of(prepared: Prepared) -> list[Layer]:
    """Return the quantization and then the noise, by the names of the plans' sites."""
    plans = (*prepared.quantizers, prepared.plan)
    return [Layer(plan.spec, tuple(site.name for site in plan.sites)) for plan in plans]


def _replays(
    prepared: Prepared, model: Any, records: Sequence[ItemResult], logits: Mapping[Name, Logits], level: float
) -> Iterator[tuple[Name, Replay]]:
    if prepared.requests:
        yield from replay_scored(prepared, model, layers_of(prepared), records, logits)
        return
    fitting = [
        record for record in records if record.steps and len(prepared.prompts[record.item]) == record.prompt_tokens
    ]
    for record in records:
        if record not in fitting:
            yield (record.item, level, record.seed), Replay(0, problem="its prompt is not the one of the task")
    answers = [
        Answer(record.item, record.seed, prepared.prompts[record.item], record.tokens, not record.truncated)
        for record in fitting
    ]
    decoding = prepared.decoding
    for index, found in replay(model, layers_of(prepared), answers, level, decoding.stop, decoding.sampling):
        record = fitting[index]
        name = record.item, level, record.seed
        yield name, _compared(record, found, logits.get(name, ()), decoding, prepared.checkpoint.tokenizer.decode)


def _compared(record: ItemResult, found: Replayed, logits: Logits, decoding: Decoding, decode: Any) -> Replay:
    """The record and what its engine left beside it against the replay."""
    stored = _ends(record)
    others = tuple(
        Difference(step, _word(token, decode), _word(best, decode), gap)
        for step, (token, best, gap) in enumerate(zip(stored, found.best, found.gaps, strict=True))
        if gap > 0
    )
    problem = ""
    if record.truncated and not _may_end(record.tokens, decoding):
        problem = f"it is cut at {len(record.tokens)} tokens, and {decoding.max_new_tokens} may be generated"
    elif len(logits) != record.steps:
        problem = f"its engine left {len(logits)} logits for {record.steps} tokens"
    elif decode(record.tokens, skip_special_tokens=True) != record.text:
        problem = "its text is not what its tokens say"
    if problem:
        return Replay(record.steps, others, problem=problem)
    distances = [_distance(one, other) for one, other in zip(logits, found.logits, strict=True)]
    step = max(range(len(distances)), key=distances.__getitem__)
    furthest = Difference(step, _number_text(logits[step]), _number_text(found.logits[step]), distances[step])
    spread = math.sqrt(sum(distance**2 for distance in distances) / len(distances))
    return Replay(record.steps, others, distances[step], furthest, spread)


def _may_end(tokens: Sequence[int], decoding: Decoding) -> bool:
    """Whether an answer without an end token may have these ``tokens``: as many as allowed, or the last one is the
    first after which a text ends it."""
    if len(tokens) == decoding.max_new_tokens:
        return True
    return decoding.until is not None and decoding.until.first(tokens) == len(tokens)


def _distance(stored: float | None, found: float) -> float:
    """None stands for what is not finite, as a flipped bit of an exponent may leave it: no distance where both are."""
    if stored is None:
        return math.inf if math.isfinite(found) else 0.0
    return abs(stored - found) if math.isfinite(found) else math.inf


def _number_text(logit: float | None) -> str:
    return NOT_FINITE if logit is None else f"{logit:.5f}"


def _word(token: int | None, decode: Any) -> str:
    """A token as messages show it; None is the end of sequence, which records leave out."""
    if token is None:
        return "the end"
    return "nothing" if token < 0 else repr(decode([token]))


def _model(prepared: Prepared) -> Any:
    """The model from its files, with code that was read anew; the one in memory where there is no room for another."""
    model = prepared.checkpoint.model
    device = str(model.device) if prepared.loaded else best_device()
    if prepared.loaded and _free(model.device) < _ROOM * model.get_memory_footprint():
        log.warning("no room for a second copy of the model: replays use the one in memory, with its code as it is")
        return model
    attention = model.config._attn_implementation
    fresh = load_checkpoint(prepared.checkpoint.source, prepared.spec.dtype, attention, device).model
    renew(fresh)
    return fresh


def _free(device: torch.device) -> float:
    """Bytes that are free on ``device``; infinite where nothing says it."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    return math.inf
