"""Which records are replayed by the second implementation, and what their replays say (no torch).

The rule cannot be foreseen: it ranks the records by a SHA-256 over all of them, with what the engine left beside them,
when the last one is stored. Whoever loads the run repeats it, so a certificate of other or fewer replays is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.record import ERROR, ItemResult, LevelReplay
from harness.spec.error_base import ErrorModel
from harness.spec.experts import FIELDS
from harness.spec.tokens import Span, selects
from harness.thresholds import REPLAY_BOUNDS, REPLAY_LEAST, REPLAY_ROUGH, REPLAY_SHARE

VERSION = 1
"""Of the rule; a manifest names the one in force (its field ``replay``), those of older runs name none."""

IMPLEMENTATION = "harness.noise.replay"
REPLAYED, REPEATED = "replay", "repeat"
"""Kinds of a second answer: by the second implementation, by the engine itself (clean, twice)."""

NOT_FINITE = "not finite"
"""How a replay writes a logit that is not."""

_INSIDE = ("qk", "softmax", "pv", "sdpa", "input", "weight")

Name = tuple[str, float, int]
"""(item, level, noise seed) of a record."""


@dataclass(frozen=True)
class Difference:
    """A step at which a replay found another token, or another logit, than the record has."""

    step: int
    stored: str
    found: str
    gap: float


@dataclass(frozen=True)
class Replay:
    """What the replay of one record gave.

    ``steps`` tokens were compared; ``others`` are the steps at which another token was best, with the gap between its
    logit and that of the stored one; ``drift`` is the largest distance of the logits of stored tokens, ``furthest``
    where that was; ``spread`` the root mean square of the distances. ``problem`` is what made a comparison
    impossible, in words. ``in_memory`` is True where the engine's own model was used, for want of memory for another.
    """

    steps: int
    others: tuple[Difference, ...] = ()
    drift: float = 0.0
    furthest: Difference | None = None
    spread: float = 0.0
    problem: str = ""
    in_memory: bool = False

    def to_json(self) -> list[object]:
        """Return a plain list for JSON."""
        furthest = None if self.furthest is None else _plain(self.furthest)
        numbers = [_finite(self.drift), _finite(self.spread)]
        found: list[object] = [self.steps, [_plain(other) for other in self.others], *numbers, furthest, self.problem]
        return [*found, True] if self.in_memory else found

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Replay:
        """Return the inverse of :meth:`to_json`. Raises TypeError or ValueError for anything else."""
        steps, others, drift, spread, furthest, problem, *in_memory = data
        if in_memory not in ([], [True]):
            raise ValueError(f"a replay of {len(data)} fields")
        return cls(
            int(steps),
            tuple(_difference(other) for other in others),
            _number(drift),
            None if furthest is None else _difference(furthest),
            _number(spread),
            str(problem),
            bool(in_memory),
        )


def _plain(difference: Difference) -> list[object]:
    return [difference.step, difference.stored, difference.found, _finite(difference.gap)]


def _difference(data: Sequence[Any]) -> Difference:
    step, stored, found, gap = data
    return Difference(int(step), str(stored), str(found), _number(gap))


def _finite(value: float) -> float | None:
    """JSON has no infinity; what is not finite is beyond every bound."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.inf if value is None else float(value)


@dataclass(frozen=True)
class Bounds:
    """How far an honest replay may lie apart, in logits: the gap of two best ones that are a tie, and the distance of
    the same logit computed twice (largest of a record). ``step`` of a logit (fraction) comes on top of both where
    logits themselves lie on a grid."""

    tie: float
    drift: float
    step: float = 0.0

    def more(self, logit: str) -> float:
        """Return what comes on top for a logit as a replay writes it."""
        number = float(logit) if self.step and logit != NOT_FINITE else 0.0
        return self.step * abs(number)


def bounds_of(dtype: str, rough: bool, step: float = 0.0) -> Bounds:
    """Return the bounds for runs of ``dtype``; ``rough`` where values are rounded to a grid on the way, so that the
    last bit of a product can move an element by a whole step, and ``step`` (fraction) where logits are rounded too."""
    found = REPLAY_ROUGH if rough else REPLAY_BOUNDS
    return Bounds(*found.get(dtype, found["bfloat16"]), step)


def quota(records: int) -> int:
    """Return how many of a level's ``records`` are replayed."""
    return min(records, max(REPLAY_LEAST, math.ceil(REPLAY_SHARE * records)))


@dataclass(frozen=True)
class Stored:
    """What the rule needs to know of a finished evaluation.

    ``seal`` is the SHA-256 (64 hex digits) over all records and what lies beside them, in the order (level, seed,
    item); ``places`` the batch and the row of each record.
    """

    seal: str
    places: Mapping[Name, tuple[int, int]]


def sealed(rows: Iterable[Sequence[Any]]) -> str:
    """Return the seal of ``rows``: of each record its checksum, batch, row and logits as they are stored."""
    hasher = hashlib.sha256()
    for row in rows:
        hasher.update(repr(tuple(row)).encode())
    return hasher.hexdigest()


def chosen(results: Sequence[ItemResult], stored: Stored, level: float, spans: Sequence[Span] = ()) -> tuple[Name, ...]:
    """Return the records of ``level`` that are replayed, in the order in which they were chosen.

    Records of an engine that failed have nothing to replay. An eighth are last rows of a batch and an eighth first
    rows; three eighths are spread over the order in which records were stored, the rest over noise seeds and lengths
    of answers: one of each part, the one ranked first. Where the noise is limited to the steps ``spans``
    (:mod:`harness.spec.tokens`) and too few of these have a row of them, those ranked first that do come on top:
    records that no noise touched prove none.
    """
    found = _chosen(results, stored, level)
    if not level or not spans:
        return found
    noisy = {
        _name(result)
        for result in results
        if result.level == level
        and result.reason != ERROR
        and any(selects(prompt, tokens, spans) for prompt, tokens, _ in result.sequences)
    }
    lacking = min(len(noisy), REPLAY_LEAST) - len(noisy.intersection(found))
    more = sorted(noisy.difference(found), key=lambda name: _rank(stored, name))
    return (*found, *more[: max(0, lacking)])


def _rank(stored: Stored, name: Name) -> str:
    return hashlib.sha256(f"{stored.seal}|{name}".encode()).hexdigest()


def _chosen(results: Sequence[ItemResult], stored: Stored, level: float) -> tuple[Name, ...]:
    own = [result for result in results if result.level == level and result.reason != ERROR]
    rank = {_name(result): _rank(stored, _name(result)) for result in own}
    wanted = quota(len(own))
    if wanted == len(own):
        return tuple(sorted(rank, key=rank.__getitem__))
    place = {name: stored.places.get(name, (0, 0)) for name in rank}
    last: dict[int, int] = defaultdict(int)
    for batch, row in place.values():
        last[batch] = max(last[batch], row)
    ranked = sorted(rank, key=rank.__getitem__)
    found: list[Name] = []
    for edges in (
        [name for name in ranked if place[name][1] == last[place[name][0]]],
        [name for name in ranked if place[name][1] == 0],
    ):
        taken = set(found)
        found += [name for name in edges if name not in taken][: max(1, wanted // 8)]
    lengths = {_name(result): (result.seed, len(result.tokens)) for result in own}
    in_order = sorted(ranked, key=place.__getitem__)
    by_length = sorted(ranked, key=lengths.__getitem__)
    half = (wanted - len(found) + 1) // 2
    for every, parts in ((in_order, half), (by_length, wanted - len(found) - half)):
        found += _spread(every, parts, rank, frozenset(found))
    taken = set(found)
    return tuple([*found, *(name for name in ranked if name not in taken)][:wanted])


def _spread(every: Sequence[Name], parts: int, rank: Mapping[Name, str], taken: frozenset[Name]) -> list[Name]:
    """The first of each of so many equal ``parts`` of ``every`` that is not ``taken``."""
    found = []
    for part in range(parts):
        piece = every[part * len(every) // parts : (part + 1) * len(every) // parts]
        found += sorted((name for name in piece if name not in taken), key=rank.__getitem__)[:1]
    return found


def chosen_twice(results: Sequence[ItemResult], stored: Stored) -> tuple[Name, ...]:
    """Return the clean records whose items the engine generates again: the first of those that are replayed."""
    return chosen(results, stored, 0.0)[:REPLAY_LEAST]


def _name(result: ItemResult) -> Name:
    return result.item, result.level, result.seed


def unknown(error: ErrorModel, sites: Iterable[str]) -> str:
    """Return why noise of ``error`` at ``sites`` (names) cannot be replayed, empty where it can."""
    if error.not_replayed:
        return f"{error.name} {error.not_replayed}"
    calls = [name for name in sites if ":" in name and name.partition(":")[2] not in (*_INSIDE, *FIELDS)]
    if calls:
        return f"the second implementation does not know calls inside modules ({calls[0]}, {len(calls)} in all)"
    return ""


def level_replay(
    level: float,
    wanted: Sequence[Name],
    records: Mapping[Name, ItemResult],
    found: Mapping[Name, Replay],
    bounds: Bounds,
) -> LevelReplay:
    """Return what the replays of one level say, with everything that speaks against it in words."""
    here = {name: replay for name, replay in found.items() if name[1] == level}
    problems = []
    missing = [name for name in wanted if name not in here]
    if missing:
        problems.append(f"{len(missing)} of {len(wanted)} records that the rule chose were not replayed")
    others = sorted(set(here) - set(wanted))
    if others:
        problems.append(f"{len(others)} records were replayed that the rule did not choose")
    judged = [name for name in wanted if name in here]
    wrong = [words for name in judged if (words := _against(name, records[name], here[name], bounds))]
    if wrong:
        more = f" (and {len(wrong) - 1} more of {len(judged)} replayed records)" if len(wrong) > 1 else ""
        problems.append(f"replay: {wrong[0]}{more}")
    ties = sum(len(here[name].others) for name in judged)
    return LevelReplay(
        level=level,
        implementation=IMPLEMENTATION,
        records=len(judged),
        wanted=len(wanted),
        of=sum(name[1] == level for name in records),
        tokens=sum(here[name].steps for name in judged),
        ties=ties,
        drift=max((here[name].drift for name in judged), default=0.0),
        problems=tuple(problems),
        in_memory=any(here[name].in_memory for name in judged),
    )


def _against(name: Name, record: ItemResult, replay: Replay, bounds: Bounds) -> str:
    """What speaks against one record, empty where nothing does."""
    item, level, seed = name
    where = f"item {item[:12]} at level {level:g}, seed {seed}"
    if replay.problem:
        return f"{where}: {replay.problem}"
    if replay.steps != record.steps:
        return f"{where}: {replay.steps} of {record.steps} tokens were compared"
    more = 0.0 if replay.furthest is None else bounds.more(replay.furthest.stored)
    beyond = next((other for other in replay.others if not other.gap <= bounds.tie + more), None)
    if beyond is not None:
        return (
            f"{where}: token {beyond.step} is {beyond.stored} in the record and {beyond.found} in the replay, "
            f"logit gap {beyond.gap:.3g} (a tie is at most {bounds.tie + more:g})"
        )
    if not replay.drift <= bounds.drift + more:
        at = replay.furthest or Difference(0, "?", "?", math.inf)
        return (
            f"{where}: the logit of token {at.step} is {at.stored} in the record and {at.found} in the replay "
            f"({replay.drift:.3g} apart, at most {bounds.drift + more:g})"
        )
    return ""
