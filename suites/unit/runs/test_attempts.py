"""Every gating of a run is numbered, whoever asks and how many at once."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.runs.attempts import NOT_COUNTED, Attempt, count_attempt

pytestmark = pytest.mark.unit

FIRST = Attempt("b1", "0.03", "policy 3", "FAIL")
WIDER = Attempt("b1", "0.05", "policy 5", "PASS")


def test_attempts_are_numbered_and_other_margins_counted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert count_attempt(run, FIRST).startswith("attempt 1 on this run, 0 with other margins; 1 against this baseline")
    assert count_attempt(run, FIRST).startswith("attempt 2 on this run, 0 with other margins; 2 against")
    assert count_attempt(run, WIDER).startswith("attempt 3 on this run, 2 with other margins; 3 against")
    lines = [json.loads(line) for line in (run / "verdicts" / "attempts.jsonl").read_text().splitlines()]
    assert [(line["number"], line["verdict"]) for line in lines] == [(1, "FAIL"), (2, "FAIL"), (3, "PASS")]


def test_attempts_on_a_baseline_are_those_of_all_runs_beside(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        words = count_attempt(tmp_path / name, FIRST)
    assert "attempt 1 on this run" in words and "2 against this baseline" in words
    assert "1 against this baseline" in count_attempt(tmp_path / "two", Attempt("b2", "0.03", "policy 3", "FAIL"))


def test_levels_that_one_test_session_judges_one_by_one_are_one_attempt(tmp_path: Path) -> None:
    one, two = (Attempt("b1", "0.03", "policy 3", "FAIL", session) for session in ("s1", "s2"))
    words = [count_attempt(tmp_path, attempt).partition(" on")[0] for attempt in (one, one, two, one, two)]
    assert words == ["attempt 1", "attempt 1", "attempt 2", "attempt 1", "attempt 2"]


def test_attempts_at_the_same_time_get_different_numbers(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        words = list(pool.map(lambda _: count_attempt(tmp_path, FIRST), range(40)))
    numbers = sorted(int(re.match(r"attempt (\d+)", text)[1]) for text in words)  # type: ignore[index]
    assert numbers == list(range(1, 41))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "verdicts").write_text("a file in its place")
    assert count_attempt(tmp_path, FIRST) == NOT_COUNTED


def test_damaged_lines_count_as_attempts(tmp_path: Path) -> None:
    (tmp_path / "verdicts").mkdir()
    (tmp_path / "verdicts" / "attempts.jsonl").write_text("{\n5\n")
    assert count_attempt(tmp_path, FIRST).startswith("attempt 3 on this run, 2 with other margins")
