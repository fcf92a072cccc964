"""Where the package lies decides what advice says and where its data are."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import installed

pytestmark = pytest.mark.unit


def test_a_checkout_has_targets_and_its_baselines() -> None:
    assert installed.in_checkout()
    assert installed.advice("setup-full", "other") == "make setup-full" == installed.full_setup()
    assert (installed.shipped() / "published").is_dir()


def test_a_wheel_has_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "harness" / "shipped").mkdir(parents=True)
    monkeypatch.setattr(installed, "PACKAGE", tmp_path / "harness")
    assert installed.advice("setup-full", "other") == "other"
    assert installed.full_setup().startswith("python -m pip install")
    assert installed.shipped() == tmp_path / "harness" / "shipped"
