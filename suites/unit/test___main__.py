"""``python -m harness`` is the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit


def test_the_package_is_the_command(tmp_path: Path) -> None:
    """Also where ``harness`` stands on no path: the same codes, and help that can be typed as it stands."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "gate"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout
    assert "python -m harness gate --help shows the options" in done.stderr
