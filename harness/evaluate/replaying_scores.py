"""Scored continuations against their second answers: by the second implementation, and by the engine itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from harness.distributions import Distribution, Ids
from harness.engines.generation import Forced
from harness.evaluate.prepared import Prepared
from harness.likelihoods import Scored
from harness.noise.replay.forcing import Answer, Replayed, replay
from harness.noise.replay.hooks import Layer
from harness.record import ItemResult, LikelihoodResult
from harness.runs.replayed import NOT_FINITE, Difference, Name, Replay
from harness.thresholds import REPLAY_BOUNDS

Logits = tuple[float | None, ...]
"""Log-probabilities (nats) of the tokens of one record; None where one is not finite."""

KEPT = 1e-6
"""Log-probabilities are kept to 7 digits: what that leaves open of a sum (fraction of the sum of magnitudes)."""


def replay_scored(
    prepared: Prepared,
    model: Any,
    layers: Sequence[Layer],
    records: Sequence[ItemResult],
    logits: Mapping[Name, Logits],
) -> Iterator[tuple[Name, Replay]]:
    """Yield what the second implementation makes of ``records``, all of one level; ``logits`` is what was left of
    them."""
    answers: list[Answer] = []
    owners: list[int] = []
    for number, record in enumerate(records):
        own = prepared.requests[record.item]
        if _asks(own) != (record.prompt_tokens, record.tokens):
            name = record.item, record.level, record.seed
            yield name, Replay(0, problem="its continuations are not those of the task")
            continue
        assert isinstance(record, LikelihoodResult)
        answers += [
            Answer(record.item, record.seed, each.context, each.continuation, False, _asked(told), True)
            for each, told in zip(own, record.requests, strict=True)
        ]
        owners += [number] * len(own)
    level = records[0].level if records else 0.0
    found: dict[int, Replayed] = dict(replay(model, layers, answers, level, ()))
    decode = prepared.checkpoint.tokenizer.decode
    for number in dict.fromkeys(owners):
        record = records[number]
        name = record.item, record.level, record.seed
        parts = [found[index] for index, owner in enumerate(owners) if owner == number]
        assert isinstance(record, LikelihoodResult)
        yield name, _compared(record, prepared.requests[record.item], parts, logits.get(name, ()), decode)


def _asks(requests: Sequence[Forced]) -> tuple[int, tuple[int, ...]]:
    """Tokens conditioned on, and the tokens scored: what a record must have of them."""
    return (
        sum(len(each.context) for each in requests),
        tuple(token for each in requests for token in each.continuation),
    )


def _compared(
    record: LikelihoodResult, asked: Sequence[Forced], parts: Sequence[Replayed], logits: Logits, decode: Any
) -> Replay:
    told = record.requests
    if len(logits) != record.steps:
        words = f"its engine left {len(logits)} log-probabilities for {record.steps} tokens"
        return Replay(record.steps, problem=words)
    if [(each.context, each.tokens) for each in told] != [(len(a.context), len(a.continuation)) for a in asked]:
        return Replay(record.steps, problem="its text tells of requests of other lengths than the task's")
    start = 0
    others: list[Difference] = []
    for number, (own, part) in enumerate(zip(told, parts, strict=True)):
        here = logits[start : start + own.tokens]
        if not _adds_up(own.nats, here):
            return Replay(record.steps, problem=f"log-likelihood {number} is not the sum of what its engine left")
        if own.greedy:
            tokens = asked[number].continuation
            others += [
                Difference(start + step, repr(decode([tokens[step]])), repr(decode([part.best[step]])), gap)
                for step, gap in enumerate(part.gaps)
                if gap > 0
            ]
        start += own.tokens
    found = [value for part in parts for value in part.logprobs]
    distances = [_distance(one, other) for one, other in zip(logits, found, strict=True)]
    step = max(range(len(distances)), key=distances.__getitem__)
    furthest = Difference(step, _number_text(logits[step]), _number_text(found[step]), distances[step])
    if told[0].distribution:
        kept = Distribution.read(told[0].distribution)
        others += _other_best(kept, parts[0], decode)
        furthest = max(furthest, _furthest_kept(kept, parts[0]), key=lambda found: found.gap)
    spread = math.sqrt(sum(distance**2 for distance in distances) / len(distances))
    return Replay(record.steps, tuple(others), furthest.gap, furthest, spread)


def _asked(told: Scored) -> Ids | None:
    """The tokens that a record has log-probabilities of, and behind them the one that it calls the most probable; at
    places that it keeps nothing of, any."""
    if not told.distribution:
        return None
    kept = Distribution.read(told.distribution)
    found = np.zeros((told.tokens, kept.ids.shape[1] + 1), np.int32)
    found[kept.at] = np.concatenate([kept.ids, kept.best[:, None]], axis=1)
    return found


def _furthest_kept(kept: Distribution, part: Replayed) -> Difference:
    """Where a log-probability of a kept token lies furthest from that of the replay."""
    assert part.asked is not None
    found = part.asked[kept.at, :-1]
    apart = np.nan_to_num(np.abs(kept.logprobs - found), nan=np.inf)
    place, number = np.unravel_index(int(apart.argmax()), apart.shape)
    stored, here = (_number_text(float(each[place, number])) for each in (kept.logprobs, found))
    return Difference(int(kept.at[place]), stored, here, float(apart[place, number]))


def _other_best(kept: Distribution, part: Replayed, decode: Any) -> Iterator[Difference]:
    """Places whose most probable token is another one in the replay, by how much."""
    assert part.asked is not None
    for place, stored in zip(kept.at.tolist(), kept.best.tolist(), strict=True):
        found = part.best[place]
        if stored != found:
            # the replay's best token lies as far above the scored one as above the stored one, less their own distance
            gap = part.gaps[place] + part.logprobs[place] - float(part.asked[place, -1])
            yield Difference(place, repr(decode([stored])), repr(decode([found])), max(gap, 0.0))


def _adds_up(nats: float | None, logits: Logits) -> bool:
    values = [value for value in logits if value is not None]
    if nats is None or len(values) < len(logits):
        return nats is None and len(values) < len(logits)
    return abs(nats - math.fsum(values)) <= KEPT * (1 + math.fsum(map(abs, values)))


def twice_scored(one: Logits, other: Logits, dtype: str) -> Replay:
    """Return the comparison of two answers of the same engine: other log-probabilities where they lie further apart
    than the last bits of products explain."""
    within, _ = REPLAY_BOUNDS.get(dtype, REPLAY_BOUNDS["bfloat16"])
    distances = [_apart(a, b) for a, b in zip(one, other, strict=True)]
    step = max(range(len(distances)), key=distances.__getitem__)
    if distances[step] <= within:
        return Replay(len(distances))
    difference = Difference(step, _number_text(one[step]), _number_text(other[step]), math.inf)
    return Replay(len(distances), (difference,))


def _apart(one: float | None, other: float | None) -> float:
    return _distance(one, math.nan if other is None else other)


def _distance(stored: float | None, found: float) -> float:
    """None stands for what is not finite: no distance where both are not."""
    if stored is None or not math.isfinite(stored):
        return math.inf if math.isfinite(found) else 0.0
    return abs(stored - found) if math.isfinite(found) else math.inf


def _number_text(value: float | None) -> str:
    return NOT_FINITE if value is None or not math.isfinite(value) else f"{value:.5f}"
