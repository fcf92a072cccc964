"""Whether a number of events is a chance of their rate: both tails, at any number of chances."""

from __future__ import annotations

import pytest

from harness.stats.rates import improbable

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("count", "chances"), [(0, 1e6), (20, 1e6), (10, 1e6), (80, 1e7), (140, 1e7), (0, 0)])
def test_chance(count: float, chances: float) -> None:
    assert not improbable(count, chances, 1e-5)


@pytest.mark.parametrize(("count", "chances"), [(0, 1e8), (60, 1e6), (20, 1e7), (200, 1e7)])
def test_no_chance(count: float, chances: float) -> None:
    assert improbable(count, chances, 1e-5)
