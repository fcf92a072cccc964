"""The call behind ``harness compare``: arms by name, runs by folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import HarnessError, compare

pytestmark = pytest.mark.unit


def test_runs_without_a_training_record_are_no_evidence(tmp_path: Path, make_run: Any) -> None:
    rows = {0.0: [[1]] * 20, 0.05: [[1]] * 20}
    paths = [make_run(tmp_path / f"run{number}", rows) for number in range(4)]
    found = compare({"one": paths[:2], "other": [str(path) for path in paths[2:]]})
    assert found.exit_code == 4 and found.verdict == "INVALID"


def test_two_arms_are_needed_and_folders_that_are_runs(tmp_path: Path) -> None:
    with pytest.raises(HarnessError):
        compare({"one": [tmp_path / "nowhere"], "other": [tmp_path / "nowhere"]})
    with pytest.raises(HarnessError):
        compare({})
