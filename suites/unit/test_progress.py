"""Times in words, and a watcher that says nothing."""

from __future__ import annotations

import pytest

from harness.progress import Silent, Watcher, duration

pytestmark = pytest.mark.unit


def test_times_are_seconds_below_two_minutes() -> None:
    assert [duration(seconds) for seconds in (0.4, 90, 119, 121, 3600)] == ["0 s", "90 s", "119 s", "2 min", "60 min"]


def test_silence_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    watcher: Watcher = Silent()
    watcher.cost("much")
    watcher.stage("records", 3, 1)
    watcher.advance(2)
    assert capsys.readouterr() == ("", "")
