"""The schedule: worked values, what holds for all parameters, what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.aqn.schedule import Schedule, resolve_stages
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit


def test_worked_values_of_29_steps():
    values = Schedule(0.05, 0.0005, 29, 10).values
    assert len(values) == 30
    assert values[:3] == (0, 0, 0)
    stages = (0.05, 0.0281, 0.0158, 0.0089, 0.005, 0.0028, 0.0016, 0.0009, 0.0005)
    for number, wanted in enumerate(stages):
        assert values[3 * number + 3 : 3 * number + 6] == pytest.approx([wanted] * 3, abs=5e-5)
    assert values[27:] == (0.0005,) * 3


def test_first_noise_of_116_steps_is_at_12():
    values = Schedule(0.05, 0.0005, 116, 10).values
    assert values.index(0.05) == 12 and set(values[:12]) == {0}


def test_two_epochs_of_five_stages():
    schedule = Schedule(0.05, 0.0005, 116, 5, epochs=2)
    assert schedule.epoch_sigmas(0) == pytest.approx((0.05, 0.005))
    assert schedule.epoch_sigmas(1) == pytest.approx((0.005, 0.0005))
    found = [sigma for _, _, sigma in schedule.stretches()]
    factor = 0.1 ** (1 / 3)
    first = [0, 0.05, 0.05 * factor, 0.05 * factor**2, 0.005]
    assert found == pytest.approx([*first, *(sigma / 10 for sigma in first)])
    assert schedule.clean == ((0, 11), (58, 69))
    assert schedule.sigma(58) == 0 and schedule.sigma(116) == 0.0005


def test_one_stage_is_constant_and_two_are_a_warm_up_and_a_constant():
    assert Schedule(0.01, 0.01, 5, 1).values == (0.01,) * 6
    assert Schedule(0.01, 0.01, 4, 2).values == (0, 0, 0.01, 0.01, 0.01)


POSITIVE = st.floats(1e-300, 1e300)


@given(POSITIVE, POSITIVE, st.integers(3, 20), st.integers(1, 6), st.integers(0, 300))
def test_holds_for_all_parameters(one, other, stages, epochs, more):
    start, end = max(one, other), min(one, other)
    schedule = Schedule(start, end, stages * epochs + more, stages, epochs)
    values = schedule.values
    assert len(values) == schedule.steps + 1 and all(math.isfinite(value) for value in values)
    noisy = [value for value in values if value]
    assert noisy[0] == start and values[-1] == end and values[0] == 0
    by_epoch: dict[int, list[float]] = {}
    stages_seen = set()
    for step, value in enumerate(values):
        epoch, stage = schedule.place(step)
        stages_seen.add((epoch, stage))
        assert (value == 0) == (stage == 0)
        by_epoch.setdefault(epoch, []).append(value)
    assert len(stages_seen) == stages * epochs, "no stage is skipped"
    for found in by_epoch.values():
        loud = [value for value in found if value]
        assert loud == sorted(loud, reverse=True)
    covered = [step for first, last in schedule.clean for step in range(first, last + 1)]
    assert covered == [step for step, value in enumerate(values) if value == 0]


@pytest.mark.parametrize(
    "given",
    [
        (0.05, 0.0, 29),
        (0.0, 0.0, 29),
        (-0.1, 0.0005, 29),
        (math.nan, 0.0005, 29),
        (math.inf, 0.0005, 29),
        (0.0005, 0.05, 29),
        (0.05, 0.0005, 29, 0),
        (0.05, 0.0005, 29, 1),
        (0.05, 0.0005, 29, 2),
        (0.05, 0.0005, 9, 10),
        (0.05, 0.0005, 0),
        (0.05, 0.0005, 29, 10, 0),
        (0.05, 0.0005, 29, 10, 3),
        (0.05, 0.0005, 2.5),
        (True, 0.0005, 29),
    ],
)
def test_settings_that_cannot_be_met_are_errors(given):
    with pytest.raises(HarnessError) as caught:
        Schedule(*given)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


@pytest.mark.parametrize("step", [-1, 30, 1.0, True])
def test_steps_outside_the_run_are_errors(step):
    with pytest.raises(HarnessError, match="steps 0 to 29"):
        Schedule(0.05, 0.0005, 29).sigma(step)


def test_stages_are_resolved_or_refused():
    assert resolve_stages(None, None, None) == (10, 1)
    assert resolve_stages(10, 2, None) == (5, 2)
    assert resolve_stages(None, 2, None) == (5, 2)
    assert resolve_stages(10, 2, 5) == (5, 2)
    for wrong in ((None, None, 5), (9, 2, None), (10, 3, 5), (10, 0, 5)):
        with pytest.raises(HarnessError):
            resolve_stages(*wrong)


def test_one_stage_is_called_so():
    with pytest.raises(HarnessError, match=r"^1 stage from sigma"):
        Schedule(0.05, 0.0005, 29, 1)
    with pytest.raises(HarnessError, match=r"^1 step for 3 stages"):
        Schedule(0.05, 0.0005, 1, 3)
