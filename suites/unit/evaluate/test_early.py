"""Evaluations that stop early: few items for clear cases, exact evidence for those, the same records when resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.early import EarlyStopping
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.run import evaluate
from harness.exceptions import StoreError
from harness.gates.early import BLOCK, EarlyPlan
from harness.record import CERTIFIED, RIGHT, WRONG, ItemResult
from harness.runs.loaded import Run, load_run
from harness.scorers import load_scorer, scorer_key
from harness.spec import EvalSpec
from harness.thresholds import CONTROL_ITEMS, CONTROL_SCALE

pytestmark = pytest.mark.long

SPEC = EvalSpec("arith", items=3 * BLOCK, levels=(0.0, 0.05), noise_seeds=2, max_new_tokens=3)
MARGINS = tuple((level, 0.1) for level in SPEC.levels)
PLAN = EarlyPlan(0.5, 0.05, MARGINS)
Scored = Callable[[str, float], bool]


def plant(monkeypatch: pytest.MonkeyPatch, right: Scored) -> None:
    """Has the model answer as ``right(item, level)`` says, and wrong in the positive control: it never learned."""
    from harness.evaluate import prepared as module

    honest = module.scored_result

    def scored(item: Any, *arguments: Any, **fields: Any) -> ItemResult:
        found = honest(item, *arguments, **fields)
        good = fields["level"] != CONTROL_SCALE and right(item.key, fields["level"])
        return replace(found, score=float(good), reason=RIGHT if good else WRONG)

    # texts are those of the tokens, which replays check, so that the planted scores are not those of the texts
    monkeypatch.setattr("harness.runs.loaded.check_scores", lambda path, name, *_: scorer_key(load_scorer(name)))

    monkeypatch.setattr(module, "scored_result", scored)


def every(item: str, level: float) -> bool:
    return True


def few(item: str, level: float) -> bool:
    """One item in eight."""
    return int(item, 16) % 8 == 0


@pytest.fixture(scope="module")
def prepared(tiny: Path) -> Prepared:
    return prepare(tiny, SPEC, "cpu")


@pytest.fixture(scope="module")
def reference(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run that is right everywhere."""
    path = tmp_path_factory.mktemp("reference") / "run"
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, every)
        evaluate(prepared, path)
        return load_run(path)


def stopped(prepared: Prepared, reference: Run, path: Path, batch_size: int = 64, plan: EarlyPlan = PLAN) -> Run:
    early = EarlyStopping(plan, reference.arm)
    ordered = early.ordered(prepared)
    evaluate(ordered, path, batch_size, parts=early.parts)
    run = load_run(path)
    assert early.finished(run)
    return run


def test_a_large_drop_stops_after_the_first_block(
    prepared: Prepared, reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, few)
    run = stopped(prepared, reference, tmp_path / "run")
    block = set(PLAN.blocks(run.asked.items)[0])
    assert {(r.item, r.level, r.seed) for r in run.results} == {
        (item, level, seed) for item in block for level, seeds in ((0.0, 1), (0.05, 2)) for seed in range(seeds)
    }
    assert run.asked.items == PLAN.order({item.key for item in prepared.items})
    assert run.arm.certificate.status == CERTIFIED, run.arm.certificate
    for level in run.arm.certificate.levels:
        assert level.expected_rows == level.counted_rows > 0
        assert level.audited > 0
    assert run.arm.certificate.control is not None and run.arm.certificate.control.items == CONTROL_ITEMS


def test_what_is_stored_does_not_depend_on_the_rule_or_the_batch_size(
    prepared: Prepared, reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, every)
    first, second = (stopped(prepared, reference, tmp_path / str(size), size) for size in (64, 24))
    assert first.results == second.results
    assert BLOCK < len(first.arm.outcomes[0.0]) < SPEC.items  # type: ignore[operator]
    whole = {(r.item, r.level, r.seed): r for r in reference.results}
    assert all(whole[result.item, result.level, result.seed] == result for result in first.results)


@pytest.mark.parametrize("after", [1, 8])
def test_interrupted_and_resumed_it_stops_at_the_same_item(
    prepared: Prepared, reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    plant(monkeypatch, every)
    early, told = EarlyStopping(PLAN, reference.arm), list[int]()

    def stop(count: int) -> None:
        told.append(count)
        if len(told) == 1 + after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(early.ordered(prepared), tmp_path / "run", 16, stop, early.parts)
    assert not early.finished(load_run(tmp_path / "run"))
    resumed = stopped(prepared, reference, tmp_path / "run", 16)
    straight = stopped(prepared, reference, tmp_path / "straight", 64)
    assert resumed.results == straight.results
    assert resumed.arm.certificate.status == CERTIFIED
    before = (tmp_path / "run" / "records.sqlite").stat().st_mtime_ns
    monkeypatch.setattr("harness.engines.transformers.generate", lambda *_: pytest.fail("something was generated"))
    stopped(prepared, reference, tmp_path / "run")
    assert (tmp_path / "run" / "records.sqlite").stat().st_mtime_ns == before


def test_what_is_undecided_goes_to_the_end(
    prepared: Prepared, reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda item, level: level == 0 or few(item, level))
    plan = replace(PLAN, margins=((0.0, 0.01), (0.05, 0.1)))  # 96 equal outcomes do not decide one point
    run = stopped(prepared, reference, tmp_path / "run", plan=plan)
    assert run.complete and run.missing == 0


def test_another_rule_is_another_evaluation(
    prepared: Prepared, reference: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, few)
    stopped(prepared, reference, tmp_path / "run")
    with pytest.raises(StoreError, match=r"another evaluation: share \(0.5 there, 0.4 now\)"):
        stopped(prepared, reference, tmp_path / "run", plan=replace(PLAN, share=0.4))
    with pytest.raises(StoreError, match=r"another evaluation: early_stop \(.* there, None now\)"):
        evaluate(prepared, tmp_path / "run")


def test_the_verb_stops_saves_and_recomputes(
    cli: Callable[..., Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plant(monkeypatch, every)
    options = ("--items", "96", "--noise-levels", "0,0.05", "--noise-seeds", "1", "--max-new-tokens", "3")
    assert cli("eval", tiny, "--out", "base", *options, "--device", "cpu").code == 0
    assert cli("baseline", "accept", "base", "--name", "tiny", "--reason", "r").code == 0
    plant(monkeypatch, few)
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    judge = ("gate", copy, "--baseline", "tiny", "--early-stop", "0.5", "--device", "cpu")
    said = cli(*judge, "--json")
    found = said.json
    assert (said.code, found["verdict"]) == (1, "FAIL")
    assert (found["early_stop"]["evaluated"], found["early_stop"]["planned"]) == (BLOCK, 96)
    (run,) = (path for path in Path("runs").iterdir())
    assert f"Stopped early: {2 * 64} records were not needed" in (run / "report.md").read_text()
    shown = cli(*judge)
    assert (shown.code, shown.err) == (1, "")
    assert f"{BLOCK} of 96 items were evaluated, in seeded random order (66.7 % saved)" in shown.out
    assert list(Path("runs").iterdir()) == [run]
    again = cli("gate", run, "--baseline", "tiny", "--early-stop", "0.5", "--from-records")
    assert again.code == 1 and "the stored verdict, byte for byte" in again.out
    policy = Path("policy.toml")
    policy.write_text("[policy]\nearly_stop = 0.5\n")
    assert "the stored verdict" in cli("gate", run, "--baseline", "tiny", "--policy", policy, "--from-records").out

    for arguments, words in (
        (("gate", run, "--baseline", "tiny"), "this gate has none: give --early-stop 0.5"),
        (("gate", run, "--baseline", "tiny", "--early-stop", "0.2"), "share (0.5 there, 0.2 now)"),
        (("baseline", "accept", run, "--name", "x", "--reason", "r"), f"holds {BLOCK} of 96 items"),
        (("compare", "--arm", f"a={run}", "--arm", "b=base"), f"holds {BLOCK} of 96 items"),
    ):
        refused = cli(*arguments)
        assert refused.code == 4 and words in refused.line
    error = cli("gate", run, "--baseline", "tiny", "--json")
    assert json.loads(error.out)["verdict"] == "INVALID"
    refused = cli(*judge, "--min-retention", "0.9")
    assert refused.code == 2 and "only the difference has an e-process" in refused.line


def test_shared_draws_are_refused_before_anything_runs(
    cli: Callable[..., Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--items", "2", "--noise-levels", "0,0.05", "--noise-seeds", "1", "--max-new-tokens", "3")
    noise = ("--noise", "relative_gaussian @ op:linear key:shared", "--no-positive-control")
    monkeypatch.setattr("harness.baselines.book.check_acceptable", lambda run: None)  # random weights are at the floor
    assert cli("eval", tiny, "--out", "base", *options, *noise, "--device", "cpu").code == 0
    assert cli("baseline", "accept", "base", "--name", "tiny", "--reason", "r").code == 0
    said = cli("gate", tiny, "--baseline", "tiny", "--early-stop", "0.5", "--device", "cpu")
    assert said.code == 2 and "early_stop 0.5 under key:shared" in said.line
    assert not Path("runs").exists()
