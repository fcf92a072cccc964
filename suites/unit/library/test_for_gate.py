"""What a gate evaluates a checkpoint with: the baseline's specification, changed where it is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import EvalSpec, GateEvaluation, GatePolicy, HarnessError
from harness.baselines.book import accept, load_named
from harness.baselines.file import Baseline
from harness.exceptions import NotComparableError
from harness.library.for_gate import baseline_spec, changed, early_plan, order_seed_of, refuse_changes

pytestmark = pytest.mark.unit


@pytest.fixture
def baseline(tmp_path: Path, make_run: Any) -> Baseline:
    run = make_run(tmp_path / "run", {0.0: [[1]] * 60, 0.05: [[1]] * 60})
    accept(run, tmp_path / "baselines", "mine", "for a test")
    return load_named(tmp_path / "baselines", "mine")


def test_the_specification_is_the_baselines_own(baseline: Baseline) -> None:
    spec = baseline_spec(baseline)
    assert (spec.task, spec.items, spec.levels) == ("arith", 60, (0.0, 0.05))
    assert order_seed_of(baseline) == spec.item_seed
    with pytest.raises(NotComparableError, match="it holds no evaluation specification"):
        baseline_spec(replace(baseline, spec=None))


def test_only_what_is_said_changes() -> None:
    spec = EvalSpec("arith", items=5)
    assert changed(spec, vars(GateEvaluation())) == spec
    other = changed(spec, vars(GateEvaluation(dtype="bfloat16", quantize="weights=mxfp4")))
    assert (other.dtype, other.items, len(other.quantization)) == ("bfloat16", 5, 1)


def test_a_finished_run_takes_no_changes(tmp_path: Path) -> None:
    refuse_changes(tmp_path, vars(GateEvaluation()))
    with pytest.raises(HarnessError, match=r"--dtype float16; .* is a run, made as it was made"):
        refuse_changes(tmp_path, vars(GateEvaluation(dtype="float16")))


def test_looking_early_is_planned_where_the_policy_asks(baseline: Baseline) -> None:
    assert early_plan(GatePolicy(), baseline) is None
    assert early_plan(GatePolicy(early_stop=0.5), baseline) is not None
