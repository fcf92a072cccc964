"""Items that an engine loses: INVALID with the items named, never a KeyError and never a run without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engines import transformers
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import EvidenceError, NotComparableError
from harness.runs.evidence import judge_control
from harness.runs.loaded import complete_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.long

Refusal = Callable[..., str]
SPEC = EvalSpec("arith", items=12, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=2)


@pytest.mark.parametrize("level", [0.0, 0.05, 1.0])
def test_items_that_an_engine_loses_are_named(
    tiny: Path, tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, level: float
) -> None:
    """At level 1 it is the positive control that loses them."""
    prepared = prepare(tiny, SPEC, "cpu")
    lost = sorted(item.key for item in prepared.items)[:10]
    whole = transformers.run_batch

    def losing(prepared: Any, session: Any, batch: Any) -> Any:
        results, audit = whole(prepared, session, batch)
        return [result for result in results if batch.level != level or result.item not in lost], audit

    monkeypatch.setattr(transformers, "run_batch", losing)
    out = tmp_path / "run"
    line = refusal(evaluate, prepared, out, 6, kind=EvidenceError, code=4)
    assert f"10 items missing from the run ({', '.join(lost[:3])} and 7 more)" in line
    assert "records (of 1" in refusal(complete_run, out, kind=NotComparableError, code=4)
    monkeypatch.setattr(transformers, "run_batch", whole)
    evaluate(prepared, out, 6)
    assert complete_run(out).complete


def test_a_control_without_clean_records_proves_nothing(make_result: Any) -> None:
    clean = [make_result(f"i{index}") for index in range(2)]
    noisy = [make_result(f"i{index}", 1.0, 0, 0, tokens=(9,)) for index in range(12)]
    assert judge_control(clean, noisy[:2], 1.0, at_floor=False).problems == ()
    (problem,) = judge_control(clean, noisy, 1.0, at_floor=False).problems
    assert problem == "positive control: 10 of its items have no clean record (i10, i11, i2 and 7 more)"
    for at_floor in (False, True):
        (problem,) = judge_control(clean, [], 1.0, at_floor=at_floor).problems
        assert problem == "positive control: it has no record"
