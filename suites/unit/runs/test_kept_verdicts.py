"""Verdicts kept beside their run: the same bytes, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.exceptions import NotComparableError
from harness.runs.kept_verdicts import check_verdict, keep_verdict, verdict_file, verdict_text

pytestmark = pytest.mark.unit


def test_a_verdict_is_kept_once_and_recognized(tmp_path: Path) -> None:
    file = verdict_file(tmp_path, "baseline", "policy")
    assert file != verdict_file(tmp_path, "baseline", "other policy")
    assert not check_verdict(file, {"verdict": "PASS"})
    keep_verdict(file, {"verdict": "PASS", "n": 3})
    assert check_verdict(file, {"n": 3, "verdict": "PASS"}), "the order of keys says nothing"


def test_another_verdict_from_the_same_records_is_no_verdict(tmp_path: Path) -> None:
    file = verdict_file(tmp_path, "baseline", "policy")
    keep_verdict(file, {"verdict": "FAIL"})
    with pytest.raises(NotComparableError, match="it comes out differently") as caught:
        check_verdict(file, {"verdict": "PASS"})
    assert caught.value.exit_code == 4


def test_json_without_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        verdict_text({"p": float("nan")})
