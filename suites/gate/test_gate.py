"""The packaged gate suite in this repository: ``pytest -m gate --checkpoint=PATH --baseline=NAME``."""

import pytest

from harness.suites.gate import test_level_holds_against_the_baseline

__all__ = ["test_level_holds_against_the_baseline"]

pytestmark = pytest.mark.gate
