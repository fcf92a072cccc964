"""Rows and pages about baselines, as JSON types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.baselines.book import accept
from harness.baselines.summary import compare_baselines, list_baselines, show_baseline

pytestmark = pytest.mark.unit


@pytest.fixture
def book(tmp_path: Path, make_run: Any) -> Path:
    folder = tmp_path / "baselines"
    for name, right in (("mine", 45), ("other/one", 30)):
        run = make_run(tmp_path / name, {0.0: [[int(i < right)] for i in range(60)], 0.05: [[1, 0]] * 60})
        accept(run, folder, name, "for a test")
    return folder


def test_a_list_names_all_and_a_damaged_file_hides_no_other(book: Path) -> None:
    rows = list_baselines(book)
    assert [(row["name"], row["items"], row["status"]) for row in rows] == [
        ("mine", 60, "certified"),
        ("other/one", 60, "certified"),
    ]
    next(book.glob("mine*")).write_text("{")
    damaged, sound = list_baselines(book)
    assert damaged["status"] == "damaged" and "mine" in damaged["reason"] and sound["items"] == 60


@pytest.mark.parametrize("text", ['{"packages": {}}', "[1, 2]", '"words"'])
def test_a_file_of_something_else_is_not_called_damaged(book: Path, text: str) -> None:
    (book / "package.json").write_text(text)
    rows = {row["name"]: row for row in list_baselines(book)}
    assert rows["package"]["status"] == "no baseline" and len(rows) == 3 and rows["mine"]["status"] == "certified"


def test_one_in_full_holds_accuracy_with_its_interval(book: Path) -> None:
    found = show_baseline(book, "mine")
    json.dumps(found, allow_nan=False)
    clean, noisy = found["levels"]
    assert (clean["n"], clean["accuracy"]["estimate"], noisy["accuracy"]["estimate"]) == (60, 0.75, 0.5)
    assert clean["accuracy"]["low"] < 0.75 < clean["accuracy"]["high"]
    assert found["measurement_key"]["task"] == "arith" and found["reason"] == "for a test"


def test_baselines_and_runs_are_compared_outcome_by_outcome(book: Path, tmp_path: Path) -> None:
    found = compare_baselines(book, "mine", "other/one")
    assert len(found.changed[0.0]) == 15 and not found.changed.get(0.05)
    same = compare_baselines(book, "mine", str(tmp_path / "mine"))
    assert not any(same.changed.values())
