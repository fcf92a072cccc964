"""The scripted engine: its answers are scored and stored, an interruption resumes, and no script is evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import EvalSpec
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.run import evaluate
from harness.record import CERTIFIED, RIGHT, TRUNCATED, UNPARSED
from harness.runs.loaded import load_run
from harness.testing import ScriptedEngine, tiny_checkpoint

pytestmark = pytest.mark.unit


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """Four items, clean and at 5 %, answered in at most 24 tokens."""
    path = tiny_checkpoint(tmp_path / "tiny")
    spec = EvalSpec(
        "arith", items=4, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=24, dtype="float32", positive_control=False
    )
    return prepare(path, spec, "cpu")


def right_answers(prepared: Prepared) -> dict[str, str]:
    return {item.key: f"#### {item.reference}" for item in prepared.items}


def test_right_answers_are_scored_and_a_script_is_no_evidence(prepared: Prepared, tmp_path: Path) -> None:
    right = right_answers(prepared)
    engine = ScriptedEngine(prepared, lambda item, level, seed: right[item])
    evaluate(prepared, tmp_path / "run", engine=engine)
    run = load_run(tmp_path / "run")
    assert [result.reason for result in run.results] == [RIGHT] * 8
    assert {asked[:2] for asked in engine.asked} == {(item, level) for item in right for level in (0.0, 0.05)}
    assert run.arm.certificate.status != CERTIFIED


def test_what_is_too_long_or_no_number_has_its_reason(prepared: Prepared, tmp_path: Path) -> None:
    first = prepared.items[0].key
    texts = ScriptedEngine(prepared, lambda item, level, seed: "1 " * 40 if item == first else "none")
    evaluate(prepared, tmp_path / "run", engine=texts)
    reasons = {result.item: result.reason for result in load_run(tmp_path / "run").results}
    assert reasons.pop(first) == TRUNCATED and set(reasons.values()) == {UNPARSED}


def test_an_interrupted_script_is_resumed_where_it_stopped(prepared: Prepared, tmp_path: Path) -> None:
    right = right_answers(prepared)
    last = prepared.items[-1].key

    def stopping(item: str, level: float, seed: int) -> str:
        if level and item == last:
            raise KeyboardInterrupt
        return right[item]

    with pytest.raises(KeyboardInterrupt):
        evaluate(prepared, tmp_path / "run", 1, engine=ScriptedEngine(prepared, stopping))
    again = ScriptedEngine(prepared, lambda item, level, seed: right[item])
    evaluate(prepared, tmp_path / "run", 1, engine=again)
    noisy = [asked for asked in again.asked if asked[1]]
    assert [item for item, _, _ in noisy] == [last] and len(load_run(tmp_path / "run").results) == 8
