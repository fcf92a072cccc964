"""Writes finished runs without a model: records, ledger, audits, replays and manifest that follow from each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from harness.answers import FLEXIBLE, STRICT
from harness.coverage import Coverage, coverage_digest
from harness.record import (
    DECODE,
    ERROR,
    PREFILL,
    RIGHT,
    TRUNCATED,
    UNPARSED,
    WRONG,
    ControlResult,
    ItemResult,
    SiteCount,
)
from harness.revision import code_identity
from harness.runs.choice import Choice
from harness.runs.evidence import ExpectedSite, Fed
from harness.runs.machine import environment
from harness.runs.manifest import EvaluationManifest, Identity, PlannedSite, StoredPlan
from harness.runs.replayed import REPEATED, REPLAYED, VERSION, Replay, chosen, chosen_twice
from harness.runs.store import Audit, Store
from harness.scorers import load_scorer, scorer_key
from harness.spec import EvalSpec
from harness.thresholds import CONTROL_ITEMS

SITES = (
    ExpectedSite("layers.0.up", "linear", 40, last_token_only=False, grows=False),
    ExpectedSite("lm_head", "linear", 50, last_token_only=True, grows=False),
)
COVERAGE = Coverage(2, 0.998, {"rotary": "on purpose"}, coverage_digest([s.name for s in SITES], ["rotary"]), False)
KEY = {
    "task": "arith",
    "dataset": "d1",
    "template": "t1",
    **scorer_key(load_scorer("strict")),
    "engine": "transformers",
}
KEY |= {"coverage": COVERAGE.text}
REFERENCE = "5"
"""The right answer of every item."""

NOISE = "relative_gaussian @ op:linear"
CONTROL = ControlResult(1.0, 2, 2, 0, 2)
Rows = Mapping[float, Sequence[Sequence[float | str]]]


def make_result(item: str = "i0", level: float = 0.0, seed: int = 0, score: Any = 1.0, **changes: Any) -> ItemResult:
    """Return a record: three prompt tokens and two generated ones with an end, right by default.

    ``score`` is 1, 0, or the reason why there is none (``"unparsed"``, ``"truncated"``, ``"error"``). The text gives
    the score where the right answer is :data:`REFERENCE`. ``changes`` go into the record's fields.
    """
    reason = score if isinstance(score, str) else RIGHT if score else WRONG
    value = None if isinstance(score, str) else float(score)
    text = {UNPARSED: "no number", TRUNCATED: "no number", ERROR: ""}.get(reason, f"#### {5 if value else 6}")
    answer = None if value is None else text.removeprefix("#### ")
    result = ItemResult(
        *(item, level, seed, value, reason, answer, dict.fromkeys((STRICT, FLEXIBLE), value)),
        *(3, (7, 8), text, reason == TRUNCATED),
    )
    return replace(result, **changes)


def make_counts(
    results: Iterable[ItemResult], level: float, sites: Sequence[ExpectedSite] = SITES, **changes: Any
) -> list[SiteCount]:
    """Return the ledger that fits ``results`` at ``level``; ``changes`` go into the first site."""
    here = Fed.of((result for result in results if result.level == level), sites[0].tokens)
    found = []
    for site in sites:
        elements = site.elements(here)
        count = SiteCount(
            site=site.name,
            op=site.op,
            level=level,
            process="here:1",
            calls=2,
            rows=site.rows(here),
            elements=elements,
            changed=elements if level else 0,
            nonzero=elements,
            signal=4.0 * elements,
            error=4.0 * elements * level**2,
            relative=elements * level**2,
        )
        found.append(count)
    return [replace(found[0], **changes), *found[1:]]


class RunMaker:
    """Writes finished runs as an evaluation would, without a model: ``RunMaker()(path, rows)``.

    The parts can be had one by one, for runs that lack something or hold what does not follow.
    """

    make_result = staticmethod(make_result)
    make_counts = staticmethod(make_counts)

    def manifest(
        self, items: Sequence[str], levels: Sequence[float], seeds: int, /, **changes: Any
    ) -> EvaluationManifest:
        """Return the manifest of a run over ``items`` and ``levels``; ``changes`` go into the identity."""
        asked: dict[str, Any] = {
            "weights": "w1",
            "measurement_key": KEY,
            "items": tuple(items),
            "levels": tuple(levels),
            "noise_seeds": seeds,
            "positive_control": True,
        }
        identity = Identity(**{**asked, **changes})
        sites = tuple(PlannedSite(*(vars(site)[f.name] for f in fields(PlannedSite))) for site in SITES)
        return EvaluationManifest(
            identity=identity,
            measurement_key=KEY,
            environment=environment(),
            code=code_identity(),
            checkpoint={"path": "ckpt", "weights": identity.weights},
            spec=EvalSpec("arith", items=len(items), levels=tuple(levels), noise_seeds=seeds).to_json(),
            plan=StoredPlan(NOISE, sites, {"rotary": "on purpose"}),
            replay=VERSION,
            coverage=COVERAGE,
        )

    @staticmethod
    def audits(store: Store, level: float) -> list[Audit]:
        """Return what the audit of the only batch of ``level`` leaves."""
        choice = Choice(level, 0, 1, store.trail())
        return [Audit(level, 9, (), phase, 1, choice) for phase in (PREFILL, DECODE)]

    @staticmethod
    def controlled(store: Store) -> ControlResult:
        """Return the positive control that the stored clean answers lead to, with everything lost."""
        items = store.manifest.identity.items[:CONTROL_ITEMS]
        first = [result for result in store.results() if (result.level, result.seed) == (0, 0)]
        clean = [result for result in first if result.item in items]
        return replace(CONTROL, items=len(items), clean_right=sum(result.score == 1 for result in clean))

    def __call__(self, path: Path, rows: Rows, control: ControlResult | None = CONTROL, **changes: Any) -> Path:
        """Write the run folder ``path`` and return it: certified, replayed, with its positive control.

        ``rows[level]`` has one row per item with a score or reason per seed; ``control`` None leaves the control out;
        ``changes`` go into the ledger of the noisy levels.
        """
        seeds = max((len(row) for level, table in rows.items() if level for row in table), default=1)
        items = [f"i{index}" for index in range(max(len(table) for table in rows.values()))]
        results = [
            make_result(item, level, seed, score)
            for level, table in rows.items()
            for item, row in zip(items, table, strict=False)
            for seed, score in enumerate(row)
        ]
        with Store.create(path, self.manifest(items, sorted(rows), seeds)) as store:
            store.add_questions({item: f"question {item}?" for item in items}, dict.fromkeys(items, REFERENCE))
            for level in sorted(rows):
                here = [result for result in results if result.level == level]
                noise = changes if level else {}
                store.add_batch(here, make_counts(here, level, **noise), self.audits(store, level))
            if control is not None:
                store.set_control(self.controlled(store) if control is CONTROL else control)
            self.replay(store)
        return path

    @staticmethod
    def replay(store: Store) -> None:
        """Store that everything which is to be replayed was, and agreed."""
        results, stored = store.results(), store.stored()
        records = {(result.item, result.level, result.seed): result for result in results}
        for level in sorted({result.level for result in results}):
            names = chosen(results, stored, level)
            store.add_replays(REPLAYED, {name: Replay(records[name].steps) for name in names})
        twice = chosen_twice(results, stored)
        store.add_replays(REPEATED, {name: Replay(records[name].steps) for name in twice})


def write_run(path: Path | str, rows: Rows, control: ControlResult | None = CONTROL, **changes: Any) -> Path:
    """Write a finished, certified run into the folder ``path`` and return it.

    ``rows[level]`` has one row per item (``i0``, ``i1``, ...) with a score or reason per noise seed:
    ``{0.0: [[1], [0]], 0.05: [[1, 0], [0, 0]]}``. The rest is as :class:`RunMaker` has it.
    """
    return RunMaker()(Path(path), rows, control, **changes)
