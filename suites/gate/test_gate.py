"""The gate as a test suite: ``pytest -m gate --checkpoint PATH --baseline NAME``."""

import pytest


@pytest.mark.gate
def test_level_holds_against_the_baseline(gate_level, robustness):
    assert robustness.gate(gate_level)
