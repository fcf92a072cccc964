"""What a gate may demand, and the order of verdicts."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.gates import EXIT_CODES, FAIL, INCONCLUSIVE, INVALID, PASS, GatePolicy, key_differences, worst

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("margin", 3),
        ("margin", -0.01),
        ("margin", math.nan),
        ("alpha", 0.0),
        ("alpha", 0.5),
        ("alpha", math.nan),
        ("floor", 1.0),
        ("floor", -0.1),
        ("nats_margin", 0.0),
        ("nats_margin", math.inf),
        ("nats_margin", math.nan),
        ("min_retention", 0.0),
        ("min_retention", 95.0),
        ("min_retention", math.nan),
        ("bootstrap_resamples", -1),
        ("bootstrap_seed", 0.5),
    ],
)
def test_a_bad_value_is_named_with_its_rule_and_a_way_out(field: str, value: Any) -> None:
    with pytest.raises(HarnessError) as caught:
        GatePolicy(**{field: value})
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert field in message
    assert repr(value) in message
    assert message.count(";") == 2


def test_the_text_by_which_stored_verdicts_are_found_says_later_rules_only_where_they_are_given() -> None:
    """What was stored before there was a margin in nats, and while the floor was a number, is found again."""
    usual = (
        "GatePolicy(margin=0.06, alpha=0.05, min_retention=None, floor=0.1, bootstrap_resamples=10000,"
        " bootstrap_seed=0, across=None, margins=(), retentions=(), levels=(), noise_seeds=1, min_overlap=0.0,"
        " family='fixed_sequence', inconclusive='stop', early_stop=0.0, force=False, positive_control=True)"
    )
    assert repr(GatePolicy()) == usual
    assert repr(GatePolicy(nats_margin=0.05)) == f"{usual[:-1]}, nats_margin=0.05)"
    assert repr(GatePolicy(floor=0.2)) == usual.replace("floor=0.1", "floor=0.2")


def test_edges_that_are_allowed() -> None:
    GatePolicy(margin=0.0, floor=0.0, min_retention=1.0, bootstrap_resamples=0)


def test_exit_codes() -> None:
    assert EXIT_CODES == {PASS: 0, FAIL: 1, INCONCLUSIVE: 3, INVALID: 4}


def test_invalid_before_fail_before_inconclusive_before_pass() -> None:
    order = [INVALID, FAIL, INCONCLUSIVE, PASS]
    for first, second in itertools.product(order, repeat=2):
        assert worst([first, second]) == order[min(order.index(first), order.index(second))]
    assert worst([]) == INVALID


def test_keys_differ_by_value_and_by_absence() -> None:
    found = key_differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "x", "d": "4"})
    assert [sentence.split(":")[0].split()[-1] for sentence in found] == ["b", "c", "d"]
    assert "'2'" in found[0]
    assert "'x'" in found[0]
    assert "baseline (missing)" in found[1]
    assert "candidate (missing)" in found[2]
    assert key_differences({"a": "1"}, {"a": "1"}) == ()
    assert key_differences({}, {})


def test_the_declared_axis_may_differ_and_nothing_else() -> None:
    ours, theirs = {"quantization": "mxfp4", "dtype": "a"}, {"quantization": "none", "dtype": "b"}
    assert len(key_differences(ours, theirs)) == 2
    (left,) = key_differences(ours, theirs, across="quantization")
    assert "in dtype" in left
    assert key_differences({"dtype": "a"}, {"dtype": "a", "quantization": "none"}, across="quantization")  # missing
    with pytest.raises(HarnessError, match="across 'weights'; known: quantization"):
        GatePolicy(across="weights")
    limited = {"noise": "relative_gaussian @ op:linear tokens:first"}
    assert key_differences(limited, {"noise": "relative_gaussian @ op:linear"}, GatePolicy(across="noise").across) == ()


def test_neither_package_loads_torch() -> None:
    code = "import sys, harness.stats, harness.gates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
