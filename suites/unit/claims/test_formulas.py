"""Arithmetic that settles claims."""

from __future__ import annotations

import pytest

from harness.claims.formulas import FORMULAS, evaluate
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit


def test_adapters_have_rank_times_inputs_and_outputs() -> None:
    assert evaluate("lora_parameters", {"rank": 2, "layers": 3, "inputs": (4, 5), "outputs": (6, 7)}).value == 132


def test_a_window_and_how_often_chance_does_as_well() -> None:
    found = evaluate("window_overlap", {"layers": 4, "window": (0, 1), "target": (1,)})
    assert (found.value, found.chance) == (100.0, pytest.approx(2 / 3))


def test_all_adapters_but_the_last_lie_behind_frozen_ones() -> None:
    assert evaluate("adapters_behind_frozen", {"layers": 2, "adapters_per_layer": 7, "last_adapters": 1}).value == 13


@pytest.mark.parametrize("name", list(FORMULAS))
def test_inputs_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(HarnessError, match="its inputs do not fit"):
        evaluate(name, {})
