"""The cache of converted checkpoints: whole entries or none, made once, and refused once they are something else."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoints.cache import NOTE, cache_folder, content_key, kept
from harness.exceptions import CheckpointError

pytestmark = pytest.mark.unit


def made(folder: Path) -> dict[str, Any]:
    (folder / "config.json").write_text("{}")
    return {"by": "me"}


def entry(cache: Path, make: Any = made) -> tuple[Path, dict[str, Any]]:
    return kept(cache, "entry", make, weights=False)


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "robustness-harness" / "checkpoints"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "robustness-harness" / "checkpoints"
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_keys_keep_their_parts_apart() -> None:
    assert content_key("ab", "c") != content_key("a", "bc")
    assert content_key("ab", "c") == content_key("ab", "c") and len(content_key()) == 32


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    folder, note = entry(tmp_path)
    assert folder == tmp_path / "entry" and note["by"] == "me" and (folder / NOTE).is_file()
    assert entry(tmp_path, lambda _: pytest.fail("made twice")) == (folder, note)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def failing(folder: Path) -> dict[str, Any]:
        made(folder)
        raise CheckpointError("it failed")

    with pytest.raises(CheckpointError, match="it failed"):
        entry(tmp_path, failing)
    assert [found.name for found in tmp_path.iterdir() if found.is_dir()] == []
    assert entry(tmp_path)[1]["by"] == "me"


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / ".entry.x1y2"
    left.mkdir()
    (left / "half").touch()
    (tmp_path / "entry").mkdir()  # without a note it never was an entry
    assert entry(tmp_path)[1]["by"] == "me" and not left.exists()


def test_a_changed_entry_is_refused(tmp_path: Path, refusal: Any) -> None:
    folder, _ = entry(tmp_path)
    (folder / "config.json").write_text("{ }")
    line = refusal(entry, tmp_path, kind=CheckpointError)
    assert f"remove {folder}" in line
    (folder / NOTE).write_text("{")
    assert "unreadable JSON" in refusal(entry, tmp_path, kind=CheckpointError)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, refusal: Any) -> None:
    (tmp_path / "file").touch()
    assert "HARNESS_CACHE" in refusal(entry, tmp_path / "file", kind=CheckpointError)


def test_two_that_want_the_same_entry_make_it_once(tmp_path: Path) -> None:
    begun: list[int] = []
    notes: list[dict[str, Any]] = []

    def slow(folder: Path) -> dict[str, Any]:
        begun.append(1)
        time.sleep(0.2)
        return made(folder)

    threads = [threading.Thread(target=lambda: notes.append(entry(tmp_path, slow)[1])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1 and len(notes) == 3 and notes[0] == notes[1] == notes[2]
