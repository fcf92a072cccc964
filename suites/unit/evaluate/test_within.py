"""Evaluations within a budget, by a clock that the engine moves: what is timed, what is chosen, and what is kept."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.engines.protocol import Batch, Ran
from harness.evaluate import within as module
from harness.evaluate.calibrating import COLD, SEED, calibrate
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.within import Budget, assumed, evaluate_within, plan_within
from harness.exceptions import HarnessError, StoreError
from harness.gates.budget import choose
from harness.gates.budget_design import assumed_design
from harness.gates.costs import Costs, Rate
from harness.gates.policy import GatePolicy
from harness.runs.item_order import choice_order
from harness.runs.loaded import Run, load_run
from harness.spec import EngineOptions, EvalSpec
from harness.testing.engine import ScriptedEngine

pytestmark = pytest.mark.unit

SPEC = EvalSpec("arith", items=150, levels=(0.0, 0.05, 0.1), max_new_tokens=3)
WIDE = GatePolicy(margin=0.2)
BATCH, CLEAN, NOISY, AUDIT = 0.3, 0.01, 0.02, 0.005
"""Seconds of a batch and of its records, by the fake clock."""


class Ticking(ScriptedEngine):
    """Takes a known time; a cold one ten times as long for its first batch of each level. Stops by itself after a
    number of batches."""

    now, cold, left, closed = 0.0, 1.0, 10_000, 0

    def __exit__(self, *raised: object) -> None:
        self.closed += 1

    def stream(self, batches: Iterable[Batch]) -> Generator[Ran, None, None]:
        for batch in batches:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            first = batch.level not in {level for _, level, _ in self.asked}
            record = (NOISY if batch.level else CLEAN) + (AUDIT if batch.audited else 0.0)
            self.now += (BATCH + len(batch.prompts) * record) * (self.cold if first else 1.0)
            yield from super().stream((batch,))


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> Prepared:
    return prepare(tiny, SPEC)


Engines = Callable[..., Ticking]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engines:
    """Has evaluations run on one :class:`Ticking` engine, whose clock is theirs."""

    def made(answer: str = "1", **settings: Any) -> Ticking:
        found = Ticking(None, lambda item, level, seed: answer)  # type: ignore[arg-type]
        for name, value in settings.items():
            setattr(found, name, value)

        def opened(prepared: Prepared, *_: Any) -> Ticking:
            found.evaluation = prepared
            return found

        monkeypatch.setattr(module, "engine_of", opened)
        monkeypatch.setattr("harness.evaluate.api.engine_of", opened)
        return found

    return made


def budget(engine: Ticking, seconds: float, policy: GatePolicy = WIDE) -> Budget:
    return Budget(seconds, assumed(policy), clock=lambda: engine.now)


def run_within(tiny: Path, out: Path, engine: Ticking, seconds: float) -> Run:
    return evaluate_within(tiny, SPEC, out, budget(engine, seconds), EngineOptions(16))


@pytest.mark.parametrize("cold", [1.0, 10.0])
def test_what_is_timed_is_what_the_engine_takes_cold_or_not(prepared: Prepared, cold: float) -> None:
    engine = Ticking(prepared, lambda item, level, seed: "1")
    engine.cold = cold
    found = calibrate(prepared, engine, 64, 100.0, lambda: engine.now)
    for rate, record in ((found.clean, CLEAN), (found.noisy, NOISY)):
        assert (rate.batch, rate.record, rate.audit) == pytest.approx((BATCH, record, AUDIT))
    assert found.batch_size == 64 and found.spent == 0.0


def test_little_is_timed_where_little_is_allowed(prepared: Prepared) -> None:
    taken = {}
    for allowed in (0.1, 100.0):
        engine = Ticking(prepared, lambda item, level, seed: "1")
        calibrate(prepared, engine, 64, allowed, lambda engine=engine: engine.now)  # type: ignore[misc]
        taken[allowed] = len(engine.asked)
    assert taken[0.1] == 2 * (COLD + 4 + 8 + 8) and taken[100.0] == 2 * (COLD + 4 + 8 + 16 + 64 + 64)


def test_what_is_timed_is_last_in_the_order_and_of_no_noise_seed_that_counts(prepared: Prepared) -> None:
    engine = Ticking(prepared, lambda item, level, seed: "1")
    calibrate(prepared, engine, 64, 0.1, lambda: engine.now)
    order = choice_order((item.key for item in prepared.items), SPEC.item_seed)
    assert {item for item, _, _ in engine.asked} == set(order[-8:])
    assert {seed for _, _, seed in engine.asked} == {SEED} and SEED > 1000
    assert {level for _, level, _ in engine.asked} == {0.0, 0.1}


def test_one_item_can_be_timed_too(tiny: Path) -> None:
    prepared = prepare(tiny, dataclasses.replace(SPEC, items=1))
    engine = Ticking(prepared, lambda item, level, seed: "1")
    found = calibrate(prepared, engine, 64, 1.0, lambda: engine.now)
    assert found.noisy.record == pytest.approx(BATCH + NOISY) and found.noisy.batch == pytest.approx(0.0)


def test_the_run_is_what_the_plan_says_and_takes_what_it_forecast(
    tiny: Path, prepared: Prepared, tmp_path: Path, engine: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    ticking = engine()
    with caplog.at_level(logging.INFO, "harness"):
        run = run_within(tiny, tmp_path / "run", ticking, 20.0)
    kept = run.manifest.budget  # type: ignore[union-attr]
    assert kept is not None and kept["seconds"] == 20.0
    plan = kept["plan"]
    order = choice_order((item.key for item in prepared.items), SPEC.item_seed)
    assert run.asked.items == order[: plan["items"]] and run.asked.noise_seeds == plan["noise_seeds"]
    assert plan["noise_seeds"] >= 2 and 11 < plan["items"] < 150
    assert {(r.item, r.level, r.seed) for r in run.results} == {
        (item, level, seed)
        for item in run.asked.items
        for level in SPEC.levels
        for seed in range(plan["noise_seeds"] if level else 1)
    }
    spec = EvalSpec.from_json(dict(run.manifest.spec))  # type: ignore[union-attr]
    assert (spec.items, spec.noise_seeds) == (plan["items"], plan["noise_seeds"])
    # all of the clock is the engine's: nothing else takes time here
    assert plan["forecast"] == pytest.approx(ticking.now, rel=0.08) and ticking.now <= 20.0
    assert f"budget 20 s: taken {ticking.now:.0f} s, forecast {plan['forecast']:.0f} s" in caplog.text
    assert ticking.closed == 1
    assert any(
        "planned for a budget of 20 s before any outcome was known" in note for note in run.arm.certificate.notes
    )


def test_the_plan_is_the_best_one_for_what_was_timed(tiny: Path, prepared: Prepared, engine: Engines) -> None:
    ticking = engine()
    plan, kept, said = plan_within(tiny, SPEC, budget(ticking, 25.0), EngineOptions(16))
    rates = {name: Rate(**kept["costs"][name]) for name in ("clean", "noisy")}
    costs = Costs(**{**kept["costs"], **rates, "replay": tuple(kept["costs"]["replay"])})
    design = assumed_design(SPEC, [item.key for item in prepared.items], {}, WIDE)
    assert choose(design, costs, 25.0) == plan
    assert f"budget 25 s: {plan.items} of 150 items and {plan.noise_seeds} of at most" in said[0]
    assert "minimum detectable effect" in said[0] and "timed on this machine" in said[0]


def test_scores_do_not_move_the_choice(tiny: Path, tmp_path: Path, engine: Engines) -> None:
    """Answers of one length, right or wrong: the plan is the same, to the second."""
    plans = []
    for number, answer in enumerate(("7", "8", "\n")):
        run = run_within(tiny, tmp_path / str(number), engine(answer), 20.0)
        plans.append(run.manifest.budget)  # type: ignore[union-attr]
    assert plans[0] == plans[1] == plans[2]


def test_an_interrupted_run_goes_on_with_its_own_choice(
    tiny: Path, tmp_path: Path, engine: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_within(tiny, tmp_path / "whole", engine(), 20.0)
    with pytest.raises(KeyboardInterrupt):
        run_within(tiny, tmp_path / "run", engine(left=14), 20.0)
    assert 0 < len(load_run(tmp_path / "run").results) < len(whole.results)
    monkeypatch.setattr(module, "calibrate", lambda *_: pytest.fail("it was planned anew"))
    slower = engine(now=1e6)
    run = run_within(tiny, tmp_path / "run", slower, 20.0)
    assert run.complete and run.asked == whole.asked
    assert not {seed for _, _, seed in slower.asked} & {SEED}
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    again = run_within(tiny, tmp_path / "run", engine(), 20.0)
    assert again.asked == run.asked and (tmp_path / "run" / "manifest.json").read_bytes() == before


def test_a_crash_while_timing_leaves_nothing(tiny: Path, tmp_path: Path, engine: Engines) -> None:
    ticking = engine(left=3)
    with pytest.raises(KeyboardInterrupt):
        run_within(tiny, tmp_path / "run", ticking, 20.0)
    assert not (tmp_path / "run").exists() and ticking.closed == 1
    assert run_within(tiny, tmp_path / "run", engine(), 20.0).asked.items


def test_another_budget_or_none_is_another_run(tiny: Path, tmp_path: Path, engine: Engines) -> None:
    run_within(tiny, tmp_path / "run", engine(), 20.0)
    with pytest.raises(StoreError, match=r"with --budget 30; it was planned for 20; give --budget 20, or use another"):
        run_within(tiny, tmp_path / "run", engine(), 30.0)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    count, seeds = len(manifest["identity"]["items"]), manifest["identity"]["noise_seeds"]
    plain = dataclasses.replace(SPEC, items=count, noise_seeds=seeds)
    engine()
    assert module.evaluate(tiny, plain, tmp_path / "run").complete, "the numbers alone say what is evaluated"
    module.evaluate(tiny, dataclasses.replace(SPEC, items=3, noise_seeds=1), tmp_path / "given")
    with pytest.raises(StoreError, match="its items were not planned for a budget; leave --budget out"):
        run_within(tiny, tmp_path / "given", engine(), 20.0)


def test_too_small_a_budget_names_the_least_one_and_writes_nothing(tiny: Path, tmp_path: Path, engine: Engines) -> None:
    with pytest.raises(HarnessError, match=r"PASS is out of reach.* seconds are the least that would do") as caught:
        run_within(tiny, tmp_path / "run", engine(), 3.0)
    least = float(str(caught.value).split("about ")[1].split()[0])
    assert caught.value.exit_code == 2 and not (tmp_path / "run").exists()
    assert run_within(tiny, tmp_path / "run", engine(), least + 1).complete


def test_a_budget_that_will_decide_little_says_so_beforehand(tiny: Path, engine: Engines) -> None:
    narrow = GatePolicy(margin=0.03)
    _, _, said = plan_within(tiny, SPEC, budget(engine(), 200.0, narrow), EngineOptions(16))
    assert "warning: within this budget a checkpoint that lost nothing is INCONCLUSIVE with probability" in said[1]
    assert "even all items and seeds would not PASS" in said[1]
    _, _, said = plan_within(tiny, SPEC, budget(engine(), 8.0, GatePolicy(margin=0.15)), EngineOptions(16))
    assert "seconds would PASS with probability 0.8" in said[1]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(HarnessError, match="it is in seconds, above 0"):
        Budget(seconds, assumed(WIDE))


def test_several_workers_are_refused(tiny: Path, tmp_path: Path, engine: Engines) -> None:
    with pytest.raises(HarnessError, match="--budget with --workers 2; one engine is timed"):
        evaluate_within(tiny, SPEC, tmp_path / "run", budget(engine(), 20.0), EngineOptions(16, workers=2))


def test_a_perplexity_has_no_gate_to_plan_for(tiny: Path, tmp_path: Path, engine: Engines) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "one two three"}\n{"text": "four five six"}\n')
    spec = EvalSpec("perplexity", data=str(tmp_path / "texts.jsonl"), items=None)
    with pytest.raises(HarnessError, match="--budget with --task perplexity; perplexity has no right answers"):
        evaluate_within(tiny, spec, tmp_path / "run", budget(engine(), 20.0))
