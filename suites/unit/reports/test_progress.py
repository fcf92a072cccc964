"""News of a long run: lines where there is no terminal, and not too many of them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.reports import progress
from harness.reports.progress import SECONDS_BETWEEN_LINES, shown

pytestmark = pytest.mark.unit


def test_a_pipe_gets_the_cost_and_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, file = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with shown(Console(file=file, width=80)) as watcher:
        watcher.cost("it takes [long]")
        watcher.stage("items", 100, done=20)
        for _ in range(4):
            clock[0] += SECONDS_BETWEEN_LINES / 2
            watcher.advance(10)
    assert file.getvalue().splitlines() == [
        "it takes [long]",
        "items: 40 of 100, 30 s left",
        "items: 60 of 100, 20 s left",
    ]
