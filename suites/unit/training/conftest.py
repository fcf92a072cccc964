"""What the tests of training share."""

from __future__ import annotations

import pytest

from harness.training import integrity
from suites.unit.training.clean_runs import in_order


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order without verl's sampler, which need not be installed."""
    monkeypatch.setattr(integrity, "planned_order", in_order)
