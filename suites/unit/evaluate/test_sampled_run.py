"""A sampled evaluation: draws at every level, the same whatever the batch, resumed, repeated and gated as any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engines import transformers as engine
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.regenerate import replay
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError
from harness.gates import INVALID, GatePolicy, gate
from harness.gates.quick import QuickCheck
from harness.record import CERTIFIED
from harness.runs.loaded import Run, load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.long

SPEC = EvalSpec("arith", items=3, levels=(0.0, 0.05), noise_seeds=3, max_new_tokens=8, temperature=0.5, top_p=0.9)
DRAWS = {(level, seed) for level in (0.0, 0.05) for seed in range(3)}


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> Prepared:
    return prepare(tiny, SPEC)


@pytest.fixture(scope="module")
def finished(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("sampled") / "run"
    evaluate(prepared, path, 4)
    return load_run(path)


def answers(run: Run) -> dict[tuple[str, float, int], tuple[int, ...]]:
    return {(result.item, result.level, result.seed): result.tokens for result in run.results}


def test_every_level_has_every_draw(prepared: Prepared, finished: Run) -> None:
    assert {(level, seed) for _, level, seed in answers(finished)} == DRAWS
    assert len(finished.results) == 3 * len(DRAWS) == prepared.draws
    assert finished.complete and finished.arm.certificate.status == CERTIFIED
    assert finished.arm.key["decoding"] == "sampling temperature=0.5 top_p=0.9 keyed-gumbel:1"
    assert EvalSpec.from_json(dict(finished.evaluation.spec)) == SPEC
    assert finished.arm.certificate.repetition.items == 8, "the engine repeats single draws, not items"
    assert finished.arm.certificate.control.items == 3
    assert all(replayed.records == 8 and not replayed.problems for replayed in finished.arm.certificate.replays)


def test_the_draws_differ_from_each_other(finished: Run) -> None:
    found = answers(finished)
    items = {item for item, _, _ in found}
    assert all(len({found[item, level, seed] for seed in range(3)}) == 3 for item in items for level in (0.0, 0.05))


def test_neither_batch_nor_company_changes_an_answer(prepared: Prepared, finished: Run, tmp_path: Path) -> None:
    evaluate(prepared, tmp_path / "alone", 1)
    assert answers(load_run(tmp_path / "alone")) == answers(finished)


def test_a_colder_run_is_greedier(tiny: Path, finished: Run, tmp_path: Path) -> None:
    cold, greedy = replace(SPEC, temperature=0.01, top_p=1.0), replace(SPEC, temperature=0.0, top_p=1.0)
    for spec, name in ((cold, "cold"), (greedy, "greedy")):
        evaluate(prepare(tiny, spec), tmp_path / name)
    found, wanted = answers(load_run(tmp_path / "cold")), answers(load_run(tmp_path / "greedy"))
    assert len(wanted) == 3 + 3 * 3, "a greedy run has one clean answer of each item"
    assert {name: tokens for name, tokens in found.items() if name in wanted} == wanted
    assert wanted != {name: answers(finished)[name] for name in wanted}


def test_a_broken_off_run_goes_on(prepared: Prepared, finished: Run, tmp_path: Path, monkeypatch: Any) -> None:
    honest, calls = engine.generate, []

    def second_stops(*given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(*given, **more)

    monkeypatch.setattr(engine, "generate", second_stops)
    with pytest.raises(KeyboardInterrupt):
        evaluate(prepared, tmp_path / "run", 4)
    monkeypatch.setattr(engine, "generate", honest)
    assert 0 < len(load_run(tmp_path / "run").results) < len(finished.results)
    evaluate(prepared, tmp_path / "run", 4)
    assert answers(load_run(tmp_path / "run")) == answers(finished)
    assert load_run(tmp_path / "run").arm.certificate.status == CERTIFIED


def test_one_answer_generated_again_has_the_clean_one_of_the_same_draw_beside_it(finished: Run) -> None:
    item = finished.asked.items[0]
    found = replay(finished, item, 0.05, 2)
    assert found.reproduced
    assert [(each["level"], each["seed"]) for each in found.generations] == [(0.0, 2), (0.05, 2)]


def test_sampled_and_greedy_runs_are_not_compared(finished: Run, tiny: Path, tmp_path: Path) -> None:
    evaluate(prepare(tiny, replace(SPEC, temperature=0.0, top_p=1.0)), tmp_path / "greedy")
    result = gate(finished.arm, load_run(tmp_path / "greedy").arm, GatePolicy(floor=0.0))
    assert result.verdict == INVALID
    assert any("measurement keys differ in decoding" in reason for reason in result.reasons)


def test_a_quick_check_takes_the_first_draws_of_the_clean_level_too(finished: Run) -> None:
    check = QuickCheck.declared(finished.arm, 0, 2, 2)
    assert check is not None
    part = check.part_of(finished.arm)
    assert {(level, seed) for level, cells in part.outcomes.items() for row in cells.values() for seed in row} == {
        (level, seed) for level, seed in DRAWS if seed < 2
    }
    with pytest.raises(HarnessError, match="this quick check is on"):
        check.check(replace(finished.arm, outcomes=finished.arm.outcomes), finished.arm, check.chosen(finished.arm))
