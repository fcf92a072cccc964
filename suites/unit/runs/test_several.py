"""The folder of the runs of several tasks: what it holds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.runs.several import begin_tasks, check_tasks, is_tasks, read_tasks, run_folders

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]


def test_it_is_begun_once_and_found_again(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert not is_tasks(out)
    folders = begin_tasks(out, ["b", "a"])
    assert folders == {"b": out / "b", "a": out / "a"} and not (out / "a").exists()
    text = (out / "tasks.json").read_text()
    (out / "a").mkdir()
    assert begin_tasks(out, ["a", "b"]) == folders and (out / "tasks.json").read_text() == text
    assert list(read_tasks(out)) == ["b", "a"] and is_tasks(out)


def test_a_list_that_was_being_written_when_its_process_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".tasks.json.x1").write_text("{")
    begin_tasks(tmp_path, ["a", "b"])


def test_other_tasks_and_other_files_are_refused(tmp_path: Path, refusal: Refusal) -> None:
    begin_tasks(tmp_path / "out", ["a", "b"])
    assert "it holds the runs of a, b, not of a, c" in refusal(check_tasks, tmp_path / "out", ["a", "c"])
    (tmp_path / "file").write_text("")
    assert "it is a file" in refusal(check_tasks, tmp_path / "file", ["a", "b"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    assert "it is the run of one task" in refusal(check_tasks, tmp_path / "run", ["a", "b"])


def test_folders_are_names_that_a_file_system_takes(tmp_path: Path, refusal: Refusal) -> None:
    assert run_folders(tmp_path, ["lm_eval:x/y"]) == {"lm_eval:x/y": tmp_path / "lm_eval_x_y"}
    assert run_folders(tmp_path, [".."]) == {"..": tmp_path / "_"}
    assert "the same folder" in refusal(run_folders, tmp_path, ["a:b", "a/b"])


def test_the_list_of_tasks_is_held_by_its_sum(tmp_path: Path, refusal: Refusal) -> None:
    begin_tasks(tmp_path, ["arith", "svamp"])
    text = (tmp_path / "tasks.json").read_text()
    for edited, words in (
        (text.replace('"svamp"', '"svomp"'), "does not fit"),
        ("{", "unreadable"),
        ("[]", "no JSON object"),
        (text.replace('"schema_version": 1', '"schema_version": 2'), "schema_version = 2"),
    ):
        (tmp_path / "tasks.json").write_text(edited)
        assert words in refusal(read_tasks, tmp_path)
