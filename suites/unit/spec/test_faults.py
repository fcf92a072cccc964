"""The fields of the faults, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from harness.exceptions import NoiseSpecError
from harness.spec import parse_noise
from harness.spec.faults import SINGLE, SPECIAL, BitFlips, FaultMix, StuckLane

pytestmark = pytest.mark.unit


def test_the_defaults_are_the_published_shares() -> None:
    mix = FaultMix()
    assert (mix.single, mix.special) == (SINGLE, SPECIAL) == (0.39, 0.0101)
    assert SINGLE < 0.4


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("bit_flips(0.001, 3, burst)", BitFlips(0.001, 3, "burst")),
        ("stuck_lane(0.5, period=16, value=1)", StuckLane(0.5, 16, 1.0)),
        ("fault_mix(0.001, single=1, special=0)", FaultMix(0.001, 1.0, 0.0)),
        ("fault_mix", FaultMix()),
    ],
)
def test_lines_are_read_and_printed(line: str, model: Any) -> None:
    assert parse_noise(line).error == model
    assert parse_noise(str(model)).error == model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BitFlips(0.1, 0), "count 0 of bit_flips; it is an integer from 1 to 16"),
        (lambda: BitFlips(0.1, 17), "count 17"),
        (lambda: BitFlips(0.1, 2.0), "count 2.0"),  # type: ignore[arg-type]
        (lambda: BitFlips(0.1, True), "count True"),
        (lambda: BitFlips(0.1, 2, "row"), "it is random or burst"),
        (lambda: StuckLane(0.1, 0), "period 0"),
        (lambda: StuckLane(0.1, 2**31), "below 2"),
        (lambda: FaultMix(0.1, most=1), "most 1 of fault_mix; it is an integer from 2 to 16"),
    ],
)
def test_what_means_nothing_is_refused(make: Any, said: str) -> None:
    with pytest.raises(NoiseSpecError, match=said):
        make()


def test_events_strike_a_share_of_the_elements_and_lanes_a_share_that_the_width_decides() -> None:
    assert BitFlips().expected_share(0.01) == FaultMix().expected_share(0.01) == 0.01
    assert StuckLane().expected_share(0.01) is None
