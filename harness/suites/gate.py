"""The gate as a test suite, from any folder, one test per level.

::

    pytest --pyargs harness.suites.gate --robustness-checkpoint=PATH --robustness-baseline=NAME
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.pytest_plugin.fixture import Robustness


def test_level_holds_against_the_baseline(robustness: Robustness, robustness_level: float) -> None:
    """Check that one level PASSes against the baseline; FAIL, INCONCLUSIVE and INVALID fail it, each in its own
    words."""
    assert robustness.gate(robustness_level)
