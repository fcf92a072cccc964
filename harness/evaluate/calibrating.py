"""A short timed calibration: what batches, audits and replays of an evaluation cost on this machine, with its engine.

Only seconds and lengths of answers leave it: what was answered is thrown away unread. The items are the last ones of
the order in which items are taken, under a noise seed that no evaluation uses, so that what is timed is judged only
where a plan takes nearly everything there is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.engines.protocol import Batch, Engine
from harness.evaluate.prepared import Prepared
from harness.evaluate.replaying import replay_seconds
from harness.gates.costs import Costs, Rate, control_seconds
from harness.record import ItemResult
from harness.runs.choice import Choice, Trail
from harness.runs.replayed import unknown
from harness.thresholds import REPLAY_LEAST

SEED = 1_000_003
"""The noise seed of what is timed."""

COLD = 2
"""Items of the first batch of every level, which is not counted: caches, kernels and allocators are cold."""

SIZES = (4, 8, 16, 64)
"""Batches that are timed, in items: two at least, the next one only where it fits into what may be spent."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class _Timed:
    """One batch: its records, the seconds they took, and what came back."""

    records: int
    seconds: float
    results: Sequence[ItemResult]

    @property
    def steps(self) -> int:
        return max((result.steps for result in self.results), default=1)


def calibrate(prepared: Prepared, engine: Engine, batch_size: int, allowed: float, clock: Clock) -> Costs:
    """Return what ``prepared`` costs with the started ``engine``, in seconds by ``clock``; nothing is spent yet.

    About ``allowed`` seconds are taken, more where two small batches of each level need more. Level 0 and the highest
    level are timed; the levels between are taken to cost what the highest does.
    """
    levels = sorted({0.0, max(prepared.spec.levels)})
    most = min(len(prepared.items), batch_size)
    sizes = sorted({min(size, most) for size in SIZES})
    begun = clock()
    for level in levels:
        _run(prepared, engine, level, min(COLD, most), clock)
    timed: dict[float, list[_Timed]] = {level: [] for level in levels}
    for number, size in enumerate(sizes):
        latest = [found[-1].seconds for found in timed.values() if found]
        # the next size takes as much longer as it is larger, once plain and once audited
        if number >= 2 and clock() - begun + 2 * sum(latest) * size / sizes[number - 1] > allowed:
            break
        for level, found in timed.items():
            found.append(_run(prepared, engine, level, size, clock))
    size = timed[0.0][-1].records
    audited = {level: _run(prepared, engine, level, size, clock, audited=True) for level in levels}
    clean, noisy = (_rate(timed[level], audited[level]) for level in (levels[0], levels[-1]))
    largest = timed[levels[-1]][-1]
    longest = 1 if prepared.requests else prepared.decoding.max_new_tokens
    return Costs(
        spent=0.0,
        clean=clean,
        noisy=noisy,
        replay=_replay(prepared, largest.results, noisy, clock),
        control=control_seconds(noisy, 1 if prepared.requests else largest.steps, longest),
        batch_size=batch_size,
    )


def _run(prepared: Prepared, engine: Engine, level: float, size: int, clock: Clock, *, audited: bool = False) -> _Timed:
    prompts = tuple(prepared.prompt(item.key, SEED) for item in prepared.items[-size:])
    choice = Choice(level, 0, 1, Trail(0, "")) if audited else None
    begun = clock()
    with contextlib.closing(engine.stream((Batch(level, prompts, choice),))) as answers:
        results = [result for ran in answers for result in ran.results]
    return _Timed(size, clock() - begun, results)


def _rate(timed: Sequence[_Timed], audited: _Timed) -> Rate:
    """The line through the smallest and the largest batch; neither of its numbers is below 0."""
    small, large = timed[0], timed[-1]
    more = large.records - small.records
    record = (large.seconds - small.seconds) / more if more else large.seconds / large.records
    record = min(max(record, 0.0), large.seconds / large.records)
    beyond = max(0.0, audited.seconds - large.seconds) / large.records
    return Rate(max(0.0, large.seconds - record * large.records), record, beyond)


def _replay(prepared: Prepared, results: Sequence[ItemResult], rate: Rate, clock: Clock) -> tuple[float, float]:
    """(seconds of loading the model anew, seconds of each replayed record).

    Where the engine has the model in a process of its own, there may be no room for another one: then a replayed record
    is taken to cost what a generated one does.
    """
    if not prepared.loaded:
        return 0.0, rate.record + rate.batch / REPLAY_LEAST
    sites = [site.name for site in prepared.plan.sites]
    noisy = not unknown(prepared.plan.spec.error, sites)
    records = [result for result in results[:REPLAY_LEAST] if noisy or not result.level]
    return replay_seconds(prepared, records, clock)
