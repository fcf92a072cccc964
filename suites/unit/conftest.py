"""What the unit tests share: a tiny random checkpoint, synthetic runs, and the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from harness.coverage import Coverage, coverage_digest
from harness.exceptions import HarnessError
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
from harness.spec import EvalSpec
from harness.testing import tiny_checkpoint
from harness.thresholds import CONTROL_ITEMS

ROOT = Path(__file__).resolve().parents[2]
SITES = (
    ExpectedSite("layers.0.up", "linear", 40, last_token_only=False, grows=False),
    ExpectedSite("lm_head", "linear", 50, last_token_only=True, grows=False),
)
COVERAGE = Coverage(2, 0.998, {"rotary": "on purpose"}, coverage_digest([s.name for s in SITES], ["rotary"]), False)
KEY = {"task": "arith", "dataset": "d1", "template": "t1", "scorer": "strict", "engine": "transformers"}
KEY |= {"coverage": COVERAGE.text}
REFERENCE = "5"
NOISE = "relative_gaussian @ op:linear"
CONTROL = ControlResult(1.0, 2, 2, 0, 2)
Rows = Mapping[float, Sequence[Sequence[float | str]]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one layer with random weights and the byte-level tokenizer; it has learned nothing."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", seed=7)


@pytest.fixture(scope="session")
def arith() -> Path:
    """The checkpoint shipped with the repository."""
    return ROOT / "fixtures" / "arith-qwen2"


@pytest.fixture(scope="session")
def make_result() -> Callable[..., ItemResult]:
    """Builds a record: three prompt tokens and two generated ones with an end, right by default.

    Its text gives its score where the right answer is :data:`REFERENCE`.
    """

    def build(item: str = "i0", level: float = 0.0, seed: int = 0, score: Any = 1.0, **changes: Any) -> ItemResult:
        reason = score if isinstance(score, str) else RIGHT if score else WRONG
        value = None if isinstance(score, str) else float(score)
        text = {UNPARSED: "no number", TRUNCATED: "no number", ERROR: ""}.get(reason, f"#### {5 if value else 6}")
        answer = None if value is None else text.removeprefix("#### ")
        result = ItemResult(
            *(item, level, seed, value, reason, answer, value, value, 3, (7, 8), text, reason == TRUNCATED),
        )
        return replace(result, **changes)

    return build


@pytest.fixture(scope="session")
def make_counts() -> Callable[..., list[SiteCount]]:
    """Builds the ledger that fits ``results`` at ``level``; ``changes`` go into the first site."""

    def build(
        results: Iterable[ItemResult], level: float, sites: Sequence[ExpectedSite] = SITES, **changes: Any
    ) -> Any:
        here = Fed.of(result for result in results if result.level == level)
        found = []
        for site in sites:
            rows, elements = site.rows(here), site.elements(here)
            count = SiteCount(
                site=site.name,
                op=site.op,
                level=level,
                process="here:1",
                calls=2,
                rows=rows,
                elements=elements,
                changed=elements if level else 0,
                nonzero=elements,
                signal=4.0 * elements,
                error=4.0 * elements * level**2,
                relative=elements * level**2,
            )
            found.append(count)
        return [replace(found[0], **changes), *found[1:]]

    return build


@dataclass(frozen=True)
class RunMaker:
    """Writes evaluation runs as the run loop would, without a model."""

    make_result: Callable[..., ItemResult]
    make_counts: Callable[..., list[SiteCount]]

    def manifest(
        self, items: Sequence[str], levels: Sequence[float], seeds: int, /, **changes: Any
    ) -> EvaluationManifest:
        """``changes`` go into the identity."""
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
        """What the audit of the only batch of ``level`` leaves."""
        choice = Choice(level, 0, 1, store.trail())
        return [Audit(level, 9, (), phase, 1, choice) for phase in (PREFILL, DECODE)]

    @staticmethod
    def controlled(store: Store) -> ControlResult:
        """The positive control that the stored clean answers lead to, with everything lost."""
        items = store.manifest.identity.items[:CONTROL_ITEMS]
        clean = [result for result in store.results() if result.level == 0 and result.item in items]
        return replace(CONTROL, items=len(items), clean_right=sum(result.score == 1 for result in clean))

    def __call__(self, path: Path, rows: Rows, control: ControlResult | None = CONTROL, **changes: Any) -> Path:
        """``rows[level]`` has one row per item with a score or reason per seed; ``changes`` go into the ledger."""
        seeds = max((len(row) for level, table in rows.items() if level for row in table), default=1)
        items = [f"i{index}" for index in range(max(len(table) for table in rows.values()))]
        results = [
            self.make_result(item, level, seed, score)
            for level, table in rows.items()
            for item, row in zip(items, table, strict=False)
            for seed, score in enumerate(row)
        ]
        with Store.create(path, self.manifest(items, sorted(rows), seeds)) as store:
            store.add_questions({item: f"question {item}?" for item in items}, dict.fromkeys(items, REFERENCE))
            for level in sorted(rows):
                here = [result for result in results if result.level == level]
                noise = changes if level else {}
                store.add_batch(here, self.make_counts(here, level, **noise), self.audits(store, level))
            if control is not None:
                store.set_control(self.controlled(store) if control is CONTROL else control)
            self.replay(store)
        return path

    @staticmethod
    def replay(store: Store) -> None:
        """Stores that everything which is to be replayed was, and agreed."""
        results, stored = store.results(), store.stored()
        records = {(result.item, result.level, result.seed): result for result in results}
        for level in sorted({result.level for result in results}):
            names = chosen(results, stored, level)
            store.add_replays(REPLAYED, {name: Replay(records[name].steps) for name in names})
        twice = chosen_twice(results, stored)
        store.add_replays(REPEATED, {name: Replay(records[name].steps) for name in twice})


@pytest.fixture(scope="session")
def make_run(make_result: Any, make_counts: Any) -> RunMaker:
    """Writes a certified run: ``make_run(path, {0.0: [[1], [0]], 0.05: [[1, 0], [0, 0]]})``."""
    return RunMaker(make_result, make_counts)


@dataclass(frozen=True)
class Said:
    """What one call of the command line did."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error."""
        assert self.err.count("\n") == 1 and self.err.startswith("harness: "), self.err
        assert "Traceback" not in self.err
        return self.err.strip()

    @property
    def json(self) -> Any:
        """Standard output as strict JSON."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The ``harness`` command in this process."""
    from harness.cli.main import main

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(caught.value.code, out, err)  # type: ignore[arg-type]

    return call


@pytest.fixture(scope="session")
def refusal() -> Callable[..., str]:
    """The single line that ``call(*arguments)`` is refused with."""

    def refused(
        call: Callable[..., Any], *arguments: Any, kind: type[HarnessError] = HarnessError, code: int = 2
    ) -> str:
        with pytest.raises(kind) as caught:
            call(*arguments)
        text = str(caught.value)
        assert "\n" not in text
        assert caught.value.exit_code == code
        assert text.count(";") >= 2, f"value, rule and way out: {text}"
        return text

    return refused
